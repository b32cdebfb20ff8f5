//! OCI hooks: programs that the engine wants run on the host.

use oci_spec::runtime::{Hooks, Spec};

use crate::policy::judge::{Judge, Request};
use crate::policy::report::Rule;

/// Judges the hooks of a spec.
pub(crate) fn harden(spec: &mut Spec, judge: &mut Judge<'_>) {
    let paths: Vec<String> = spec.hooks().iter().flat_map(paths).collect();
    if paths.is_empty() {
        return;
    }
    let kept = judge.keeps(
        judge.policy.hooks,
        Request {
            rule: Rule::Hooks,
            field: "hooks",
            asked: format!("hooks: {}", paths.join(" ")),
            stripped: "no hooks",
            why: "hooks run on the host with the engine's rights",
            allow: "hooks = \"allow\"",
            instead: "configure the engine without hooks",
        },
    );
    if !kept {
        spec.set_hooks(None);
    }
}

/// The programs of all hooks, in the order in which they run.
fn paths(hooks: &Hooks) -> Vec<String> {
    [
        hooks.prestart(),
        hooks.create_runtime(),
        hooks.create_container(),
        hooks.start_container(),
        hooks.poststart(),
        hooks.poststop(),
    ]
    .into_iter()
    .flatten()
    .flatten()
    .map(|hook| hook.path().display().to_string())
    .collect()
}
