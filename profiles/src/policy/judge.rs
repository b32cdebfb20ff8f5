//! Applies verdicts while a spec is hardened and collects findings and denials.

use super::model::{Policy, Verdict};
use super::refusal::{Denial, Refusal};
use super::report::{Action, Finding, Rule};
use super::text::harmless;

/// Something a spec asks for that a policy has a verdict about.
pub(crate) struct Request<'a> {
    pub(crate) rule: Rule,
    /// The field of the spec.
    pub(crate) field: &'a str,
    /// What is asked for, in plain words.
    pub(crate) asked: String,
    /// What it gets when stripped.
    pub(crate) stripped: &'a str,
    /// Why the policy cares, in plain words.
    pub(crate) why: &'a str,
    /// The policy's line that would allow it.
    pub(crate) allow: &'a str,
    /// What the user can do instead.
    pub(crate) instead: &'a str,
}

/// Collects what the rules find.
pub(crate) struct Judge<'a> {
    pub(crate) policy: &'a Policy,
    /// Verdicts `deny` act as `strip`: the spec was privileged and the policy strips that.
    pub(crate) lenient: bool,
    pub(crate) findings: Vec<Finding>,
    denials: Vec<Denial>,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(policy: &'a Policy) -> Self {
        Self {
            policy,
            lenient: false,
            findings: Vec::new(),
            denials: Vec::new(),
        }
    }

    /// Applies `verdict` and says whether the spec keeps what it asked for.
    pub(crate) fn keeps(&mut self, verdict: Verdict, request: Request<'_>) -> bool {
        match verdict {
            Verdict::Allow => {
                self.note(
                    request.rule,
                    request.field,
                    Action::Granted,
                    &request.asked,
                    &request.asked,
                    "the policy allows it",
                );
                true
            }
            Verdict::Strip => {
                self.strip(&request);
                false
            }
            Verdict::Deny if self.lenient => {
                self.strip(&request);
                false
            }
            Verdict::Deny => {
                self.deny(request);
                false
            }
        }
    }

    fn strip(&mut self, request: &Request<'_>) {
        self.note(
            request.rule,
            request.field,
            Action::Removed,
            &request.asked,
            request.stripped,
            request.why,
        );
    }

    /// Refuses a request whatever `lenient` says.
    pub(crate) fn deny(&mut self, request: Request<'_>) {
        let mut remedy = request.instead.to_owned();
        if !request.allow.is_empty() {
            if !remedy.is_empty() {
                remedy.push_str(", or ");
            }
            remedy.push_str(&self.policy.remedy(request.allow));
        }
        self.denials.push(Denial {
            rule: request.rule,
            field: request.field.to_owned(),
            asked: harmless(&request.asked),
            why: harmless(request.why),
            remedy: harmless(&remedy),
        });
    }

    /// Notes a finding.
    pub(crate) fn note(
        &mut self,
        rule: Rule,
        field: &str,
        action: Action,
        asked: impl AsRef<str>,
        got: impl AsRef<str>,
        reason: &str,
    ) {
        self.findings.push(Finding {
            rule,
            field: field.to_owned(),
            action,
            asked: harmless(asked.as_ref()),
            got: harmless(got.as_ref()),
            reason: harmless(reason),
        });
    }

    /// The same judge, or the refusal if anything was denied.
    pub(crate) fn so_far(self) -> Result<Self, Refusal> {
        if self.denials.is_empty() {
            return Ok(self);
        }
        Err(Refusal::Denied {
            policy: self.policy.name.clone(),
            denials: self.denials,
        })
    }
}
