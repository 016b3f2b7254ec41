//! What the warps of a block share: the code, memory, time and counts.

use super::code::{Code, LOCAL, SHARED};
use super::counts::Counts;
use super::memory::{Memory, Mistake, Region};
use super::race::{Conflict, Now, Order, Who};
use super::warp::{Run, Warp, fault};

/// What the warps of a block share.
pub(super) struct Context<'a> {
    /// The kernel.
    pub(super) code: &'a Code,
    /// The memory of the device.
    pub(super) memory: &'a mut Memory,
    /// The memory of the block.
    pub(super) shared: Region,
    /// The memory of each thread.
    pub(super) local: Vec<Region>,
    /// What was executed.
    pub(super) counts: Counts,
    /// Whether races are looked for.
    pub(super) races: bool,
    /// When the launch began.
    launch: u32,
    /// When each block began, and which one it is.
    blocks: Vec<(u32, u32)>,
    /// When the block began.
    block: u32,
    /// The time of the last barrier of the block.
    barrier: u32,
}

impl<'a> Context<'a> {
    /// At the beginning of a launch.
    pub(super) fn new(
        code: &'a Code,
        memory: &'a mut Memory,
        (shared, local): (u32, u32),
        threads: u32,
        races: bool,
    ) -> Context<'a> {
        let launch = memory.begin_launch();
        let threads = if local == 0 { 0 } else { threads };
        Context {
            code,
            memory,
            shared: Region::new(SHARED, shared as usize),
            local: (0..threads).map(|_| Region::new(LOCAL, local as usize)).collect(),
            counts: Counts::default(),
            races,
            launch,
            blocks: Vec::new(),
            block: launch,
            barrier: launch,
        }
    }

    /// Begins a block.
    pub(super) fn begin(&mut self, block: u32) -> Run<()> {
        self.shared.reset();
        self.local.iter_mut().for_each(Region::reset);
        self.block = self.tick()?;
        self.barrier = self.block;
        if self.races {
            self.blocks.push((self.block, block));
        }
        Ok(())
    }

    /// A time later than all before.
    fn tick(&mut self) -> Run<u32> {
        match self.memory.time.checked_add(1) {
            None => fault(1, "the launch has too many barriers to look for races"),
            Some(time) => {
                self.memory.time = time;
                Ok(time)
            }
        }
    }

    /// All threads of the block have come to a barrier.
    pub(super) fn complete_barrier(&mut self) -> Run<()> {
        self.barrier = self.tick()?;
        Ok(())
    }

    /// Lanes of a warp have come to a barrier of the warp.
    pub(super) fn order(&mut self, warp: &mut Warp, lanes: u32) -> Run<()> {
        if !self.races {
            return Ok(());
        }
        let time = self.tick()?;
        if lanes == warp.exists {
            warp.barrier = time;
            return Ok(());
        }
        let order = warp.order.get_or_insert_with(|| Box::new([[0; 32]; 32]));
        let mut joined = [0; 32];
        for (row, _) in order.iter().enumerate().filter(|(i, _)| lanes >> i & 1 == 1).map(|(i, row)| (row, i)) {
            for (joined, &time) in joined.iter_mut().zip(row) {
                *joined = time.max(*joined);
            }
        }
        for (i, joined) in joined.iter_mut().enumerate() {
            if lanes >> i & 1 == 1 {
                *joined = time;
            }
        }
        for (i, row) in order.iter_mut().enumerate() {
            if lanes >> i & 1 == 1 {
                *row = joined;
            }
        }
        Ok(())
    }

    /// When and by whom memory is accessed, if races are looked for.
    pub(super) fn now<'w>(&self, warp: u32, barrier: u32, order: Option<&'w Order>, shared: bool) -> Option<Now<'w>> {
        self.races.then_some(Now {
            time: self.memory.time,
            launch: if shared { self.block } else { self.launch },
            block: self.block,
            barrier: self.barrier,
            warp_barrier: barrier,
            warp: warp as u16,
            order,
        })
    }

    /// What is wrong with an access, in words.
    pub(super) fn explain(&self, address: u64, mistake: Mistake) -> String {
        match mistake {
            Mistake::Unwritten(i) => format!("it reads the byte at {:#x}, which was never written", address + i as u64),
            Mistake::Pending(i) => {
                let at = address + i as u64;
                format!("it accesses the byte at {at:#x} before a cp.async that writes it was waited for")
            }
            Mistake::Race(Conflict::NonCoherent) => {
                format!("the memory at {address:#x} is both written and loaded with .nc in one launch")
            }
            Mistake::Race(Conflict::Copy) => {
                format!("it writes memory at {address:#x} before a cp.async that reads it was waited for")
            }
            Mistake::Race(Conflict::Written(who)) => self.race(address, who, "writes"),
            Mistake::Race(Conflict::Read(who)) => self.race(address, who, "reads"),
        }
    }

    fn race(&self, address: u64, who: Who, what: &str) -> String {
        let who = match who {
            Who::Thread(thread) => format!("thread {thread} of the block"),
            Who::Warp(warp) => format!("several threads of warp {warp} of the block"),
            Who::Block => "several warps of the block".to_owned(),
            Who::OtherBlock(time) => {
                let i = self.blocks.partition_point(|&(begin, _)| begin <= time);
                let block = self.blocks.get(i.saturating_sub(1)).map_or(0, |&(_, block)| block);
                format!("block {block}")
            }
            Who::Grid => "several blocks".to_owned(),
        };
        format!("race: it accesses memory at {address:#x} that {who} {what}, without a barrier in between")
    }
}
