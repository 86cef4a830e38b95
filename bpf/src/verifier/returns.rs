//! What a program may return (`check_return_code`).

use super::bounds::Bounds;
use super::refusal::{Step, refuse};
use super::state::Entry;
use super::walk::Walk;

impl Walk<'_> {
    /// At the exit of the outermost function.
    pub(super) fn check_result(&mut self) -> Step {
        let frame = self.state.frame();
        let global = frame.subprogram != 0 && frame.entry == Entry::Call;
        if global && self.returns_nothing() {
            return Ok(());
        }
        self.check_read(0)?;
        let result = *self.reg(0);
        let frame = self.state.frame();
        let (range, context) = match frame.entry {
            Entry::AsyncCallback => (Some((0, 0)), "At async callback return"),
            _ if frame.subprogram != 0 => {
                if !result.is_scalar() {
                    let name = result.type_name();
                    refuse!(
                        EINVAL,
                        "At subprogram exit the register R0 is not a scalar value ({name})"
                    );
                }
                return Ok(());
            }
            _ => (self.program.rules.returns, "At program exit"),
        };
        let Some(range) = range else { return Ok(()) };
        if !result.is_scalar() {
            let name = result.type_name();
            refuse!(EINVAL, "{context} the register R0 is not a known value ({name})");
        }
        self.mark_precise(0)?;
        self.check_range(&self.reg(0).bounds, range, context)
    }

    fn returns_nothing(&self) -> bool {
        let subprogram = self.state.frame().subprogram as usize;
        let start = self.graph.subprograms[subprogram].start;
        let functions = self.program.functions;
        functions.iter().any(|function| function.start == start && function.returns_void)
    }

    /// The kernel reads results as 32 or as 64 bits, as the helper or the hook does; both must be
    /// within the range.
    pub(super) fn check_range(&self, bounds: &Bounds, range: (i32, i32), context: &str) -> Step {
        let (low, high) = (i64::from(range.0), i64::from(range.1));
        if bounds.smin >= low && bounds.smax <= high {
            return Ok(());
        }
        let mut known = String::new();
        if bounds.smin > i64::MIN {
            known += &format!(" smin={}", bounds.smin);
        }
        if bounds.smax < i64::MAX {
            known += &format!(" smax={}", bounds.smax);
        }
        if known.is_empty() {
            known += " unknown scalar value";
        }
        refuse!(EINVAL, "{context} the register R0 has{known} should have been in [{low}, {high}]");
    }
}
