//! Attaching to functions that take no packet: a program for each, at its entry and at its return.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use ktrail_ebpf::ir::ProgramKind;
use ktrail_ebpf::kernel::{Features, Types, field};

use super::Starting;
use crate::kernel::attach::{self, Attached, Multi, Target};
use crate::kernel::program::{AttachType, LoadOptions, load};
use crate::trace::beneath::{Function, Returns};
use crate::trace::event::{Point, PointId};
use crate::trace::plan::Case;
use crate::trace::program::beneath::{Moment, build};
use crate::trace::program::{Place, Role, SkbArg};
use crate::trace::session::Backend;

/// Where `struct task_struct` keeps its stack.
pub(super) fn task_stack(types: &dyn Types) -> anyhow::Result<u32> {
    if !cfg!(target_arch = "x86_64") {
        return Err(anyhow!("--beneath: only on x86-64 so far"));
    }
    field::path(types, "task_struct", "stack")
        .map(|field| field.offset())
        .context("--beneath: this kernel's BTF has no task_struct.stack")
}

impl Starting<'_> {
    /// Attach what was asked for. The points come after all others.
    pub(super) fn attach_beneath(&mut self) -> anyhow::Result<(Vec<Point>, HashMap<PointId, Returns>)> {
        let (mut points, mut returns) = (vec![], HashMap::new());
        let functions = self.request.beneath;
        if functions.is_empty() {
            return Ok((points, returns));
        }
        // Entry and return by one program, where the other functions are attached in the same way.
        let session = match self.backend {
            Backend::KprobeMulti => self.kernel.features.session(&self.kernel.btf),
            _ => None,
        };
        let features = Features {
            session,
            ..self.kernel.features.codegen.clone()
        };
        for function in functions {
            let point = PointId((self.candidates.len() + points.len()) as u32);
            let moments = match session {
                Some(_) => &[Moment::Both][..],
                // The return first: a call in between has no entry then, and counts for nothing.
                None => &[Moment::Return, Moment::Entry],
            };
            for &moment in moments {
                let attached = self
                    .attach_moment(function, point, moment, &features)
                    .with_context(|| format!("--beneath {}: can't attach", function.point.name))?;
                if let Some(refused) = attached.refused.first() {
                    let error = anyhow::Error::from(refused.error);
                    return Err(error.context(format!("--beneath {}: can't attach", function.point.name)));
                }
                self.attached.push(attached);
            }
            self.coverage.functions += 1;
            points.push(function.point.clone());
            returns.insert(point, function.returns);
        }
        Ok((points, returns))
    }

    fn attach_moment(
        &mut self,
        function: &Function,
        point: PointId,
        moment: Moment,
        features: &Features,
    ) -> anyhow::Result<Attached> {
        let case = Case {
            skb: SkbArg {
                index: 0,
                indirect: false,
            },
            role: Role::Pass,
            quiet: false,
        };
        let program = build(
            "ktrail",
            &self.spec(ProgramKind::Kprobe, &case, Place::Fixed(point.0)),
            moment,
        );
        let targets: Vec<Target> = function
            .places
            .iter()
            .map(|&addr| Target {
                addr,
                cookie: point.0.into(),
            })
            .collect();
        let options = LoadOptions {
            attach_type: (moment == Moment::Both).then_some(AttachType::TraceKprobeSession),
            ..LoadOptions::default()
        };
        let object = self.generate(&program, features)?;
        let program = Arc::new(load(&object, &self.maps, &options)?);
        self.programs.push(Arc::clone(&program));
        if moment == Moment::Both {
            return Ok(attach::kprobe_multi(&program, &targets, Multi::Session)?);
        }
        let mut how = *self.kernel.features.kprobe.as_ref().map_err(Clone::clone)?;
        how.at_return = moment == Moment::Return;
        Ok(attach::kprobe(&program, &targets, &how, &|_, _| true)?)
    }
}
