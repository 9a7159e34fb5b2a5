//! The whole program: which functions are needed, how the stack is shared among them, where they go.

use std::collections::BTreeMap;

use super::delay::delay;
use super::lower::{SCRATCH_MAP, ZERO_MAP, lower};
use super::mir::{FrameDecl, Mfunc};
use super::placement::Placement;
use super::simplify::simplify;
use super::{Error, FuncInfo, Object, Options, Reloc, around, emit, liveness, loads, regalloc, reload, sink};
use crate::ir::{MapDecl, MapKind, MapRef, Op, Program, verify};

/// What the kernel allows a chain of calls, in bytes.
const STACK: u32 = 512;
/// The kernel counts a frame in steps of this.
const FRAME_STEP: u32 = 32;
/// What the kernel takes of a frame for `may_goto`'s counter and time stamp.
const MAY_GOTO_STACK: u32 = 16;
/// How the name of a program's scratch memory begins.
const SCRATCH: &str = "scr.";
/// The largest per-CPU value (`PCPU_MIN_UNIT_SIZE`).
const SCRATCH_MAX: u32 = 32 << 10;

/// See [`super::generate`].
pub fn generate(program: &Program, options: &Options<'_>) -> Result<Object, Error> {
    verify(program).map_err(|mut errors| {
        let error = errors.remove(0);
        Error::Invalid {
            func: error.func,
            place: error.place,
            message: error.message,
            span: error.span,
        }
    })?;
    let mut program = program.clone();
    program.functions.iter_mut().for_each(simplify);
    if options.features.rdonly_cast.is_some() {
        program.functions.iter_mut().for_each(delay);
    }
    let program = &program;
    debug_assert_eq!(verify(program), Ok(()), "simplified IR follows the rules");
    let calls = callees(program);
    let order = callees_first(&calls)?;
    let heights = heights(&calls, &order);
    let levels = heights[&0] + 1;
    // Mostly one function needs much. Where that leaves too little to its callers, each has its share.
    let all = |index: usize| (STACK + FRAME_STEP * heights[&index]).saturating_sub(FRAME_STEP * (levels - 1));
    if levels > 1
        && let Ok(object) = place(program, options, &calls, &order, all)
        && !object.maps.iter().any(|map| map.name.starts_with(SCRATCH))
    {
        return Ok(object);
    }
    let fair = |index: usize| STACK * (heights[&index] + 1) / levels;
    place(program, options, &calls, &order, fair)
}

/// Compile the functions in `order`, such that the deepest chain of calls that begins at one has at most `share` of it.
fn place(
    program: &Program,
    options: &Options<'_>,
    calls: &[Vec<usize>],
    order: &[usize],
    share: impl Fn(usize) -> u32,
) -> Result<Object, Error> {
    let mut scratch_end = 0;
    let mut compiled: BTreeMap<usize, Mfunc> = BTreeMap::new();
    // Bytes of stack of the deepest chain that starts at each function.
    let mut chains: BTreeMap<usize, u32> = BTreeMap::new();
    for &index in order {
        let below = calls[index]
            .iter()
            .map(|callee| chains[callee])
            .max()
            .unwrap_or(0);
        let budget = (share(index).max(below) - below) / FRAME_STEP * FRAME_STEP;
        let (func, frame) = compile(program, index, options, budget, &mut scratch_end)?;
        chains.insert(index, below + frame.max(1).next_multiple_of(FRAME_STEP));
        compiled.insert(index, func);
    }
    link(program, &compiled, scratch_end)
}

/// The functions that each function calls.
fn callees(program: &Program) -> Vec<Vec<usize>> {
    program
        .functions
        .iter()
        .map(|func| {
            let cfg = func.cfg();
            let mut callees: Vec<usize> = cfg
                .rpo
                .iter()
                .flat_map(|&b| &func.blocks[b].insts)
                .filter_map(|inst| match inst.op {
                    Op::CallFn { func, .. } | Op::Each { func, .. } => Some(func.0 as usize),
                    _ => None,
                })
                .collect();
            callees.sort_unstable();
            callees.dedup();
            callees
        })
        .collect()
}

/// The functions that the entry reaches, callees before callers.
fn callees_first(calls: &[Vec<usize>]) -> Result<Vec<usize>, Error> {
    fn visit(f: usize, calls: &[Vec<usize>], state: &mut [u8], order: &mut Vec<usize>) -> bool {
        match state[f] {
            1 => return false,
            2 => return true,
            _ => state[f] = 1,
        }
        let sound = calls[f].iter().all(|&callee| visit(callee, calls, state, order));
        state[f] = 2;
        order.push(f);
        sound
    }
    let mut order = vec![];
    if visit(0, calls, &mut vec![0; calls.len()], &mut order) {
        Ok(order)
    } else {
        Err(Error::TooLarge("functions call each other in a circle".into()))
    }
}

/// How many calls deep each function goes.
fn heights(calls: &[Vec<usize>], order: &[usize]) -> BTreeMap<usize, u32> {
    let mut heights = BTreeMap::new();
    for &f in order {
        let height = calls[f]
            .iter()
            .map(|callee| heights[callee] + 1)
            .max()
            .unwrap_or(0);
        heights.insert(f, height);
    }
    heights
}

/// Lower a function and allocate its registers, moving memory areas to scratch until the frame fits. Returns the
/// size of its frame, too.
fn compile(
    program: &Program,
    index: usize,
    options: &Options<'_>,
    budget: u32,
    scratch_end: &mut u32,
) -> Result<(Mfunc, u32), Error> {
    let func = &program.functions[index];
    let casts = options.features.rdonly_cast.is_some();
    let (windows, areas) = loads::windows(func, options.packet, casts, func.slots.len());
    let slots = func.slots.iter().map(|slot| FrameDecl {
        size: slot.size,
        align: slot.align,
    });
    let mut place = Placement::new(slots.chain(areas), *scratch_end);
    let mut lean = true;
    loop {
        let mut lowered = lower(program, index, options, &place, windows.clone())?;
        lowered.lean &= lean;
        emit::thread_jumps(&mut lowered);
        liveness::remove_dead(&mut lowered);
        sink::sink(&mut lowered);
        let may_goto = lowered.has_may_goto();
        let spills = lowered.frames.len();
        if lowered.lean {
            around::save(&mut lowered);
        }
        regalloc::allocate(&mut lowered);
        reload::reload(&mut lowered, spills);
        emit::thread_jumps(&mut lowered);
        let (_, frame) = emit::frame_layout(&lowered.frames);
        let frame = frame + if may_goto { MAY_GOTO_STACK } else { 0 };
        if frame <= budget {
            *scratch_end = place.scratch_end;
            if *scratch_end > SCRATCH_MAX {
                return Err(Error::TooLarge(format!(
                    "{scratch_end} bytes of per-CPU scratch memory, of {SCRATCH_MAX}"
                )));
            }
            return Ok((lowered, frame));
        }
        if std::mem::take(&mut lean) && lowered.lean {
            // It takes frame; being lean is no need.
            continue;
        }
        if !place.evict() {
            return Err(Error::TooLarge(format!(
                "function {} needs {frame} bytes of stack, of {budget}",
                func.name
            )));
        }
    }
}

fn link(program: &Program, compiled: &BTreeMap<usize, Mfunc>, scratch: u32) -> Result<Object, Error> {
    let mut object = Object {
        name: program.name.clone(),
        kind: program.kind,
        insns: vec![],
        spans: vec![],
        relocs: vec![],
        maps: program.maps.clone(),
        funcs: vec![],
    };
    let mut starts = BTreeMap::new();
    let mut calls = vec![];
    for (&index, func) in compiled {
        let code = emit::emit(func)?;
        let base = object.insns.len();
        starts.insert(index, base);
        object.funcs.push(FuncInfo {
            insn: base,
            name: program.functions[index].name.clone(),
            params: func.params.len(),
        });
        object.insns.extend(code.insns);
        object.spans.extend(code.spans);
        calls.extend(
            code.calls
                .iter()
                .map(|(at, callee)| (base + at, callee.0 as usize)),
        );
        object
            .relocs
            .extend(code.maps.iter().map(|&(at, map, value_off)| Reloc {
                insn: base + at,
                map,
                value_off,
            }));
    }
    for (at, callee) in calls {
        object.insns[at].imm = (starts[&callee] as i64 - (at as i64 + 1)) as i32;
    }
    add_maps(&mut object, scratch);
    Ok(object)
}

/// True for the name of a map that code generation has added for one program: who loads the program may create it
/// right then, and forget it.
pub fn is_own_map(name: &str) -> bool {
    name.starts_with(SCRATCH) || name == "zero"
}

/// Add the maps that code generation uses itself.
fn add_maps(object: &mut Object, scratch: u32) {
    // The kernel takes letters, digits, '_' and '.' in a name.
    let name: String = object
        .name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    let own = [
        // Of its own for each program: programs may interrupt each other.
        (
            SCRATCH_MAP,
            MapKind::PercpuArray,
            format!("{SCRATCH}{name}"),
            scratch,
        ),
        (ZERO_MAP, MapKind::Array, "zero".to_string(), 8),
    ];
    for (marker, kind, name, value_size) in own {
        if !object.relocs.iter().any(|reloc| reloc.map.0 == marker) {
            continue;
        }
        let map = MapRef(object.maps.len() as u32);
        object.maps.push(MapDecl {
            name,
            kind,
            key_size: 4,
            value_size,
            max_entries: 1,
        });
        for reloc in &mut object.relocs {
            if reloc.map.0 == marker {
                reloc.map = map;
            }
        }
    }
}
