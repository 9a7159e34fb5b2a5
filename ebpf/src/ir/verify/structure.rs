//! That the parts of a program fit together.

use super::*;

/// How deep the kernel lets functions call each other (`MAX_CALL_FRAMES`).
const MAX_DEPTH: usize = 8;
/// Ring buffers are multiples of the page size.
const PAGE: u32 = 4096;

pub fn check(program: &Program, errors: &mut Vec<VerifyError>) {
    let mut fail = |func: &str, place: &str, message: String, span: Span| {
        errors.push(VerifyError {
            func: func.into(),
            place: place.into(),
            message,
            span,
        });
    };
    for decl in &program.maps {
        if let Err(message) = map(decl) {
            fail(&program.name, &format!("map {}", decl.name), message, Span::NONE);
        }
    }
    if program.functions.is_empty() {
        fail(
            &program.name,
            "the program",
            "there is no function".into(),
            Span::NONE,
        );
    }
    for (index, func) in program.functions.iter().enumerate() {
        if let Err((place, message, span)) = function(program, index, func) {
            fail(&func.name, &place, message, span);
        }
    }
    if errors.is_empty()
        && let Err((func, message)) = call_depth(program)
    {
        errors.push(VerifyError {
            func: program.functions[func].name.clone(),
            place: "its calls".into(),
            message,
            span: Span::NONE,
        });
    }
}

fn map(decl: &MapDecl) -> Result<(), String> {
    let (key, value, entries) = (decl.key_size, decl.value_size, decl.max_entries);
    if decl.name.is_empty() {
        return Err("a map needs a name".into());
    }
    if decl.kind == MapKind::RingBuf {
        if key != 0 || value != 0 {
            return Err("a ring buffer has neither keys nor values".into());
        }
        if !entries.is_power_of_two() || entries < PAGE {
            return Err(format!(
                "{entries} bytes: a ring buffer's size is a power of two and a multiple of {PAGE}"
            ));
        }
        return Ok(());
    }
    if key == 0 || value == 0 || entries == 0 {
        return Err("key, value and entries must not be zero".into());
    }
    if matches!(
        decl.kind,
        MapKind::Array | MapKind::PercpuArray | MapKind::StackTrace
    ) && key != 4
    {
        return Err(format!("the key has {key} bytes: an index has 4"));
    }
    if decl.kind == MapKind::StackTrace && value % 8 != 0 {
        return Err(format!(
            "the value has {value} bytes: a stack trace has 8 a frame"
        ));
    }
    Ok(())
}

type Found = Result<(), (String, String, Span)>;

fn function(program: &Program, index: usize, func: &Function) -> Found {
    let fail = |place: String, message: String, span| Err((place, message, span));
    if index == 0 && !func.params.is_empty() {
        return fail(
            "its parameters".into(),
            "the entry function has none".into(),
            Span::NONE,
        );
    }
    if func.params.len() > 5 {
        let message = format!("{} parameters: a function has at most 5", func.params.len());
        return fail("its parameters".into(), message, Span::NONE);
    }
    for (i, param) in func.params.iter().enumerate() {
        if param.0 as usize >= func.regs.len() || func.params[..i].contains(param) {
            let message = format!("{param} does not exist, or is there twice");
            return fail("its parameters".into(), message, Span::NONE);
        }
    }
    for (i, slot) in func.slots.iter().enumerate() {
        if slot.size == 0 || !matches!(slot.align, 1 | 2 | 4 | 8) {
            let message = "a slot has a byte at least, and is aligned to 1, 2, 4 or 8".into();
            return fail(format!("slot ${i}"), message, Span::NONE);
        }
    }
    for (r, ty) in func.regs.iter().enumerate() {
        if let Type::MapValue { map, .. } = ty
            && map.0 as usize >= program.maps.len()
        {
            return fail(
                format!("%{r}"),
                format!("map @{} does not exist", map.0),
                Span::NONE,
            );
        }
    }
    if func.blocks.is_empty() {
        return fail("its blocks".into(), "there is none".into(), Span::NONE);
    }
    for (b, block) in func.blocks.iter().enumerate() {
        for inst in &block.insts {
            if let Err(message) = references(program, func, &inst.op) {
                return fail(format!("b{b}: {}", program.op_text(&inst.op)), message, inst.span);
            }
        }
        let Some(term) = &block.term else {
            return fail(
                format!("b{b}"),
                "the block has no terminator".into(),
                block.term_span,
            );
        };
        let place = format!("b{b}: {term}");
        let mut missing = None;
        term.uses(|r| {
            if r.0 as usize >= func.regs.len() {
                missing = Some(r.to_string());
            }
        });
        if let Term::NullCheck { dst, .. } = term
            && dst.0 as usize >= func.regs.len()
        {
            missing = Some(dst.to_string());
        }
        let mut targets = term.successors();
        targets.extend(block.bound.map(|bound| bound.exhausted.0 as usize));
        if let Some(target) = targets.iter().find(|t| **t >= func.blocks.len()) {
            missing = Some(format!("b{target}"));
        }
        if let Some(missing) = missing {
            return fail(place, format!("{missing} does not exist"), block.term_span);
        }
    }
    loops(func)
}

/// What an operation names exists.
fn references(program: &Program, func: &Function, op: &Op) -> Result<(), String> {
    let mut missing = None;
    let mut reg = |r: Reg| {
        if r.0 as usize >= func.regs.len() {
            missing = Some(r.to_string());
        }
    };
    op.uses(&mut reg);
    op.dst().into_iter().for_each(&mut reg);
    match op {
        Op::SlotAddr { slot, .. } | Op::KernelRead { slot, .. } if slot.0 as usize >= func.slots.len() => {
            missing = Some(format!("${}", slot.0));
        }
        Op::MapAddr { map, .. } | Op::MapData { map, .. } if map.0 as usize >= program.maps.len() => {
            missing = Some(format!("map @{}", map.0));
        }
        Op::Each { map, .. } if map.0 as usize >= program.maps.len() => {
            missing = Some(format!("map @{}", map.0));
        }
        Op::CallFn { func, .. } | Op::Each { func, .. } if func.0 as usize >= program.functions.len() => {
            missing = Some(format!("function {}", func.0));
        }
        _ => {}
    }
    missing.map_or(Ok(()), |what| Err(format!("{what} does not exist")))
}

fn loops(func: &Function) -> Found {
    let cfg = func.cfg();
    for &(from, header) in &cfg.back_edges {
        let block = &func.blocks[from];
        let fail = |message: String| Err((format!("b{from}"), message, block.term_span));
        if !cfg.dominates(header, from) {
            return fail(format!(
                "the jump back to b{header} enters a loop that has another way in"
            ));
        }
        let Some(bound) = func.blocks[header].bound else {
            return fail(format!("the jump back to b{header}, which has no loop bound"));
        };
        if bound.max == 0 {
            return fail(format!("the loop bound of b{header} is 0"));
        }
        if cfg.natural_loop(header)[bound.exhausted.0 as usize] {
            return fail(format!(
                "the way out of loop b{header} when its bound is used up, {}, is inside of the loop",
                bound.exhausted
            ));
        }
    }
    Ok(())
}

/// Functions call each other without circles, and not too deep.
fn call_depth(program: &Program) -> Result<(), (usize, String)> {
    fn depth(program: &Program, f: usize, path: &mut Vec<usize>) -> Result<(), (usize, String)> {
        if path.contains(&f) {
            return Err((f, "it calls itself, directly or through others".into()));
        }
        path.push(f);
        if path.len() > MAX_DEPTH {
            return Err((
                f,
                format!("it is called {} deep: the kernel allows {MAX_DEPTH}", path.len()),
            ));
        }
        let blocks = &program.functions[f].blocks;
        for inst in blocks.iter().flat_map(|block| &block.insts) {
            if let Op::CallFn { func, .. } | Op::Each { func, .. } = inst.op {
                depth(program, func.0 as usize, path)?;
            }
        }
        path.pop();
        Ok(())
    }
    (0..program.functions.len()).try_for_each(|f| depth(program, f, &mut vec![]))
}
