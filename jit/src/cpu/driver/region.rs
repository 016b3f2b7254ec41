//! A region in a driver: a machine loop that calls the driver of the body, or a branch that does.
//!
//! The body's driver gets a separate [`Launch`], on the stack. Its inputs and outputs are tables of addresses, which
//! change from trip to trip; all else is that of the launch around it, moved to the region's part.

use std::mem::{offset_of, size_of};

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, StackSlot, Value, types};
use cranelift_module::{FuncId, Module as _};

use super::DriverBuilder;
use crate::cpu::Launch;
use crate::fuse::Control;
use crate::lower::region::Region;

/// What an entry of a table of addresses is in the next trip.
enum Step {
    /// So many bytes further.
    By(i64),
    /// What is given; for a value of the carry, the entry of the output that was written.
    To(Value),
}

impl DriverBuilder<'_, '_> {
    /// Runs the region that is kernel `k`. `word` is where the work ranges of its body begin, if it reads any.
    pub(super) fn region(&mut self, k: usize, region: &Region, body: FuncId, word: Option<usize>) {
        match region.control {
            Control::Scan { num_carry, num_consts, length, reverse } => {
                self.scan(k, region, body, word, [num_carry, num_consts, length], reverse);
            }
            Control::While { num_carry } => self.repeat(k, region, body, word, num_carry),
            Control::Branch { number, count } => self.branch(k, region, body, word, [number, count]),
        }
    }

    fn scan(
        &mut self,
        k: usize,
        region: &Region,
        body: FuncId,
        word: Option<usize>,
        [num_carry, num_consts, length]: [usize; 3],
        reverse: bool,
    ) {
        let inputs = region.module.kernels.params.len();
        let (operands, results) = region.args.split_at(inputs);
        let workspace = self.workspace(k);
        let last = length as i64 - 1;
        let element = |bytes: usize| if reverse { -(bytes as i64) } else { bytes as i64 };

        let mut input_values: Vec<Value> = operands.iter().map(|&b| self.address(b, 0)).collect();
        let mut output_values: Vec<Value> = results.iter().map(|&b| self.address(b, 0)).collect();
        let mut steps: Vec<(bool, usize, Step)> = Vec::new();
        for (i, value) in input_values.iter_mut().enumerate().skip(num_carry + num_consts) {
            let step = element(region.module.kernels.params[i].bytes());
            if reverse {
                *value = self.offset(*value, -step * last);
            }
            steps.push((true, i, Step::By(step)));
        }
        for (o, value) in output_values.iter_mut().enumerate().skip(num_carry) {
            let bytes = region.module.kernels.outputs[o].ty().bytes();
            let step = element(bytes);
            if reverse {
                *value = self.offset(*value, -step * last);
            }
            steps.push((false, o, Step::By(step)));
        }
        // The last trip writes the result. So the first does, in a loop of an odd number of trips.
        let mut alternate: Vec<(usize, Value)> = Vec::new();
        for (c, value) in output_values.iter_mut().enumerate().take(num_carry) {
            match region.second[c] {
                None => steps.push((true, c, Step::To(*value))),
                Some(offset) => {
                    let second = self.offset(workspace, offset as i64);
                    alternate.push((c, self.builder.ins().bxor(*value, second)));
                    if length % 2 == 0 {
                        *value = second;
                    }
                }
            }
        }

        let [params, outputs] = [&input_values, &output_values].map(|values| self.addresses(values));
        let launch = self.inner_launch(params, outputs, workspace, word);

        let (head, after) = (self.builder.create_block(), self.builder.create_block());
        let trip = self.builder.append_block_param(head, types::I64);
        let first = self.builder.ins().iconst(types::I64, length as i64);
        self.builder.ins().jump(head, &[first.into()]);
        self.builder.switch_to_block(head);
        self.trip(region, body, launch);
        self.alternate(&alternate, params, outputs);
        for (is_input, i, step) in steps {
            let (slot, at) = (if is_input { params } else { outputs }, i as i32 * 8);
            let next = match step {
                Step::To(value) => value,
                Step::By(0) => continue,
                Step::By(bytes) => {
                    let address = self.builder.ins().stack_load(types::I64, types::I64, slot, at);
                    self.builder.ins().iadd_imm_s(address, bytes)
                }
            };
            self.builder.ins().stack_store(types::I64, next, slot, at);
        }
        let left = self.builder.ins().iadd_imm_s(trip, -1);
        let more = self.builder.ins().icmp_imm_u(IntCC::NotEqual, left, 0);
        self.builder.ins().brif(more, head, &[left.into()], after, &[]);
        self.builder.switch_to_block(after);
    }

    /// A loop of a number of trips that is not known. Its threads look at the same byte behind a barrier, and a trip
    /// writes another one than the trip before.
    fn repeat(&mut self, k: usize, region: &Region, body: FuncId, word: Option<usize>, num_carry: usize) {
        let inputs = region.module.kernels.params.len();
        let (operands, results) = region.args.split_at(inputs);
        let workspace = self.workspace(k);
        let input_values: Vec<Value> = operands.iter().map(|&b| self.address(b, 0)).collect();
        let output_values: Vec<Value> = results.iter().map(|&b| self.address(b, 0)).collect();
        let seconds = (0..num_carry).filter_map(|c| region.second[c].map(|offset| (c, offset)));
        let alternate: Vec<(usize, Value)> = seconds
            .map(|(c, offset)| {
                let second = self.offset(workspace, offset as i64);
                (c, self.builder.ins().bxor(output_values[c], second))
            })
            .collect();
        let [params, outputs] = [&input_values, &output_values].map(|values| self.addresses(values));
        let launch = self.inner_launch(params, outputs, workspace, word);

        let [head, trip, after] = [(); 3].map(|()| self.builder.create_block());
        self.builder.ins().jump(head, &[]);
        self.builder.switch_to_block(head);
        let place = self.builder.ins().stack_load(types::I64, types::I64, params, 0);
        let more = self.builder.ins().load(types::I8, MemFlagsData::new().with_notrap(), place, 0);
        self.builder.ins().brif(more, trip, &[], after, &[]);
        self.builder.switch_to_block(trip);
        self.trip(region, body, launch);
        self.alternate(&alternate, params, outputs);
        for c in (0..num_carry).filter(|&c| region.second[c].is_none()) {
            self.builder.ins().stack_store(types::I64, output_values[c], params, c as i32 * 8);
        }
        self.builder.ins().jump(head, &[]);
        self.builder.switch_to_block(after);

        // The last trip may have left the carry in the second buffers; without a trip it is what it was before.
        let finish = |cx: &mut Self| {
            for (c, &result) in output_values.iter().enumerate() {
                let at = cx.builder.ins().stack_load(types::I64, types::I64, params, c as i32 * 8);
                let is_elsewhere = cx.builder.ins().icmp(IntCC::NotEqual, at, result);
                let bytes = region.module.kernels.params[c].bytes();
                cx.only_if(is_elsewhere, |cx| cx.copy(at, result, bytes));
            }
        };
        match word {
            // All threads run the loop, and one of them copies.
            Some(word) => {
                let is_one = self.range_word(word + region.module.serial_ranges.len());
                self.only_if(is_one, finish);
            }
            None => finish(self),
        }
    }

    /// A body that runs if its number is the one that the last operand says.
    fn branch(&mut self, k: usize, region: &Region, body: FuncId, word: Option<usize>, [number, count]: [usize; 2]) {
        let (operands, results) = region.args.split_at(region.module.kernels.params.len());
        let index = self.address(operands[operands.len() - 1], 0);
        let index = self.builder.ins().load(types::I32, MemFlagsData::new().with_notrap(), index, 0);
        // One that is out of range is moved to where it is not.
        let last = self.builder.ins().iconst(types::I32, count as i64 - 1);
        let first = self.builder.ins().iconst(types::I32, 0);
        let index = self.builder.ins().smax(index, first);
        let index = self.builder.ins().smin(index, last);
        let runs = self.builder.ins().icmp_imm_u(IntCC::Equal, index, number as i64);
        self.only_if(runs, |cx| {
            let workspace = cx.workspace(k);
            let [params, outputs] = [operands, results].map(|buffers| {
                let values: Vec<Value> = buffers.iter().map(|&b| cx.address(b, 0)).collect();
                cx.addresses(&values)
            });
            let launch = cx.inner_launch(params, outputs, workspace, word);
            cx.trip(region, body, launch);
        });
    }

    /// Runs the body.
    fn trip(&mut self, region: &Region, body: FuncId, launch: Value) {
        let callee = self.module.declare_func_in_func(body, self.builder.func);
        self.builder.ins().call(callee, &[launch]);
        if region.module.is_parallel() {
            self.inner_barrier();
        }
    }

    /// What was written is read next; what is written next is the other one of two buffers, whose addresses are given
    /// as the one xor the other.
    fn alternate(&mut self, alternate: &[(usize, Value)], params: StackSlot, outputs: StackSlot) {
        for &(c, either) in alternate {
            let at = c as i32 * 8;
            let written = self.builder.ins().stack_load(types::I64, types::I64, outputs, at);
            self.builder.ins().stack_store(types::I64, written, params, at);
            let other = self.builder.ins().bxor(written, either);
            self.builder.ins().stack_store(types::I64, other, outputs, at);
        }
    }

    /// Copies so many bytes, of elements that are aligned as their size is.
    fn copy(&mut self, from: Value, to: Value, bytes: usize) {
        let (ty, step) = if bytes.is_multiple_of(8) { (types::I64, 8) } else { (types::I8, 1) };
        if bytes == 0 {
            return;
        }
        let flags = MemFlagsData::new().with_notrap();
        let (head, after) = (self.builder.create_block(), self.builder.create_block());
        let at = self.builder.append_block_param(head, types::I64);
        let first = self.builder.ins().iconst(types::I64, 0);
        self.builder.ins().jump(head, &[first.into()]);
        self.builder.switch_to_block(head);
        let (from, to) = (self.builder.ins().iadd(from, at), self.builder.ins().iadd(to, at));
        let value = self.builder.ins().load(ty, flags, from, 0);
        self.builder.ins().store(flags, value, to, 0);
        let next = self.builder.ins().iadd_imm_s(at, step);
        let more = self.builder.ins().icmp_imm_u(IntCC::NotEqual, next, bytes as i64);
        self.builder.ins().brif(more, head, &[next.into()], after, &[]);
        self.builder.switch_to_block(after);
    }

    /// A table of addresses, on the stack.
    fn addresses(&mut self, values: &[Value]) -> StackSlot {
        let slot = self.slot(values.len() * 8);
        for (i, &value) in values.iter().enumerate() {
            self.builder.ins().stack_store(types::I64, value, slot, i as i32 * 8);
        }
        slot
    }

    /// The launch of a region's body.
    fn inner_launch(&mut self, params: StackSlot, outputs: StackSlot, arena: Value, word: Option<usize>) -> Value {
        let ranges = self.field(offset_of!(Launch, ranges));
        let [params, outputs] = [params, outputs].map(|slot| self.builder.ins().stack_addr(types::I64, slot, 0));
        let barrier = self.field(offset_of!(Launch, inner_barrier));
        let barrier_data = self.field(offset_of!(Launch, inner_barrier_data));
        let fields = [
            (offset_of!(Launch, params), params),
            (offset_of!(Launch, outputs), outputs),
            (offset_of!(Launch, table), self.field(offset_of!(Launch, table))),
            (offset_of!(Launch, arena), arena),
            (offset_of!(Launch, scratch), self.field(offset_of!(Launch, scratch))),
            (offset_of!(Launch, ranges), self.offset(ranges, word.unwrap_or(0) as i64 * 8)),
            (offset_of!(Launch, barrier), barrier),
            (offset_of!(Launch, barrier_data), barrier_data),
            (offset_of!(Launch, inner_barrier), barrier),
            (offset_of!(Launch, inner_barrier_data), barrier_data),
        ];
        let slot = self.slot(size_of::<Launch>());
        for (byte, value) in fields {
            self.builder.ins().stack_store(types::I64, value, slot, byte as i32);
        }
        self.builder.ins().stack_addr(types::I64, slot, 0)
    }

    /// Waits at the barrier of regions.
    fn inner_barrier(&mut self) {
        let callee = self.field(offset_of!(Launch, inner_barrier));
        let data = self.field(offset_of!(Launch, inner_barrier_data));
        self.builder.ins().call_indirect(self.barrier, callee, &[data]);
    }

    /// The workspace of kernel `k`.
    fn workspace(&mut self, k: usize) -> Value {
        let arena = self.field(offset_of!(Launch, arena));
        self.offset(arena, self.driver.module.plan.workspaces[k] as i64)
    }
}
