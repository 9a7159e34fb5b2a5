//! Which of a function's memory areas are on the stack and which in per-CPU scratch.
//!
//! Areas are the IR's slots in order, then the packet windows. All start on the stack; as long as a frame turns
//! out too large, the largest goes to scratch ([`Placement::evict`]).

use super::mir::FrameDecl;

/// A piece of addressable memory.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    pub decl: FrameDecl,
    /// Offset in scratch, for an area that is there.
    scratch: Option<u32>,
}

/// Where a function's areas are.
#[derive(Clone, Debug)]
pub struct Placement {
    pub areas: Vec<Area>,
    /// First free byte of scratch.
    pub scratch_end: u32,
    /// How many bytes of the frame copies of kernel memory may take that each have a place of their own.
    pub fixed_bytes: u32,
}

/// What that is where the stack has room for it.
const FIXED_BYTES: u32 = 192;

impl Placement {
    /// All areas on the stack. Scratch before `scratch_end` belongs to other functions.
    pub fn new(decls: impl Iterator<Item = FrameDecl>, scratch_end: u32) -> Placement {
        let areas = decls.map(|decl| Area { decl, scratch: None }).collect();
        Placement {
            areas,
            scratch_end,
            fixed_bytes: FIXED_BYTES,
        }
    }

    pub fn in_scratch(&self, area: usize) -> bool {
        self.areas[area].scratch.is_some()
    }

    /// Offset of an area that is in scratch.
    pub fn scratch_offset(&self, area: usize) -> i32 {
        self.areas[area].scratch.unwrap_or_default() as i32
    }

    /// Need less stack: share places first, then move the largest area to scratch. False if nothing is left that is
    /// worth it.
    pub fn evict(&mut self) -> bool {
        if self.fixed_bytes > 0 {
            self.fixed_bytes = 0;
            return true;
        }
        let largest = self
            .areas
            .iter_mut()
            .filter(|area| area.scratch.is_none() && area.decl.size > 8)
            .max_by_key(|area| area.decl.size);
        let Some(area) = largest else {
            return false;
        };
        area.scratch = Some(self.scratch_end);
        self.scratch_end = (self.scratch_end + area.decl.size).next_multiple_of(8);
        true
    }
}
