//! What the warps of a block share: the code, memory, time and counts.

use super::code::{Code, LOCAL, SHARED};
use super::counts::Counts;
use super::grid::Grid;
use super::memory::{Memory, Mistake, Region};
use super::race::{Conflict, Mode, Now, Order, Who};
use super::warp::{Run, Warp, fault, lanes};

/// A block: its memory, and when it began and came to its last barrier.
#[derive(Debug)]
pub(super) struct Block {
    /// Its number.
    pub(super) number: u32,
    /// Its memory.
    pub(super) shared: Region,
    /// The memory of each thread.
    pub(super) local: Vec<Region>,
    began: u32,
    barrier: u32,
}

impl Block {
    /// A block with so many bytes of shared memory, and of local memory of each of its threads.
    pub(super) fn new((shared, local): (u32, u32), threads: u32) -> Block {
        let threads = if local == 0 { 0 } else { threads };
        let local = (0..threads).map(|_| Region::new(LOCAL, local as usize)).collect();
        Block { number: 0, shared: Region::new(SHARED, shared as usize), local, began: 0, barrier: 0 }
    }
}

/// What the warps of a block share.
pub(super) struct Context<'a> {
    /// The kernel.
    pub(super) code: &'a Code,
    /// The memory of the device.
    pub(super) memory: &'a mut Memory,
    /// The block that runs.
    pub(super) block: Block,
    /// What was executed.
    pub(super) counts: Counts,
    /// Whether races are looked for.
    pub(super) races: bool,
    /// When the launch began.
    launch: u32,
    /// What is ordered between blocks, if several are resident and races are looked for.
    grid: Option<Grid>,
}

impl<'a> Context<'a> {
    /// At the beginning of a launch of which so many blocks are resident together.
    pub(super) fn new(code: &'a Code, memory: &'a mut Memory, resident: u32, races: bool) -> Context<'a> {
        let launch = memory.begin_launch();
        let grid = (races && resident > 1).then(|| Grid::new(resident));
        Context { code, memory, block: Block::new((0, 0), 0), counts: Counts::default(), races, launch, grid }
    }

    /// Begins a block.
    pub(super) fn begin(&mut self, number: u32) -> Run<()> {
        self.block.shared.reset();
        self.block.local.iter_mut().for_each(Region::reset);
        self.block.number = number;
        self.block.began = self.tick()?;
        self.block.barrier = self.block.began;
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
        self.block.barrier = self.tick()?;
        if let Some(grid) = &mut self.grid {
            grid.barrier(self.block.number);
        }
        Ok(())
    }

    /// Lanes of a warp have come to a fence.
    pub(super) fn fence(&mut self, warp: u32, exec: u32) {
        self.counts.fences += 1;
        if let Some(grid) = &mut self.grid {
            grid.fence(self.block.number, lanes(exec).map(|lane| warp * 32 + lane as u32));
        }
    }

    /// A thread has accessed global memory by an atomic or a volatile load or store.
    pub(super) fn strong(&mut self, thread: u32, address: u64, mode: Mode) {
        if let Some(grid) = &mut self.grid {
            let reads = matches!(mode, Mode::Read(_) | Mode::Atomic);
            let writes = matches!(mode, Mode::Write(_) | Mode::Atomic);
            grid.strong((self.block.number, thread), address, reads, writes);
        }
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
    pub(super) fn now<'w>(
        &mut self,
        warp: u32,
        barrier: u32,
        order: Option<&'w Order>,
        shared: bool,
    ) -> Option<Now<'w>> {
        self.races.then_some(Now {
            time: self.memory.time,
            launch: if shared { self.block.began } else { self.launch },
            block: self.block.number,
            others: self.grid.as_mut().filter(|_| !shared).map(|grid| grid.access(self.block.number)),
            barrier: self.block.barrier,
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
            Who::OtherBlock(block) => format!("block {block}"),
            Who::Grid => "several blocks".to_owned(),
        };
        format!("race: it accesses memory at {address:#x} that {who} {what}, without a barrier in between")
    }
}
