//! Whether denied system calls are explained.

use oci_spec::runtime::Spec;

use crate::policy::judge::Judge;
use crate::policy::model::Denials;
use crate::policy::report::{Action, Rule};
use crate::policy::select::asked_denials;

const FIELD: &str = "annotations.cofferdam.dev/denials";
const EXPLAINED: &str = "denied system calls are explained";
const SILENT: &str = "denied system calls are silent";

/// What is explained where the engine's profile and ours have no common form: of two programs one can
/// have a listener, and the lower one's is never asked what the upper one denies.
const EXPLAINED_IN_PART: &str =
    "denied system calls are explained, but for those that the engine's own profile denies";

/// Notes what the policy and the annotation make of denied calls. `filtered`: there is a filter;
/// `stacked`: there are two.
pub(crate) fn harden(spec: &Spec, filtered: bool, stacked: bool, judge: &mut Judge<'_>) {
    // A value that is none was refused when the policy was selected.
    let asked = asked_denials(spec.annotations().as_ref()).ok().flatten();
    let by_annotation = asked == Some(Denials::Explain);
    let before = if by_annotation { EXPLAINED } else { SILENT };
    let explained = if stacked {
        EXPLAINED_IN_PART
    } else {
        EXPLAINED
    };
    let (action, got, reason) = match judge.policy.denials {
        Denials::Explain if !filtered => (
            Action::Removed,
            "nothing to explain",
            "there is no seccomp filter that could deny a call",
        ),
        Denials::Explain if by_annotation => (
            Action::Granted,
            explained,
            "the annotation asks for it, and the policy allows it",
        ),
        Denials::Explain => (Action::Added, explained, "the policy wants it"),
        Denials::Silent if by_annotation => (
            Action::Removed,
            SILENT,
            "only a policy with `denials = \"explain\"`, or a policy file that lists the annotation \
             under [annotations], lets a container have it",
        ),
        Denials::Silent => return,
    };
    judge.note(Rule::Denials, FIELD, action, before, got, reason);
}
