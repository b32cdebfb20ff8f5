//! What kind of program it is, and how far its result can be trusted.

use serde::{Deserialize, Serialize};

use crate::link::{Loaded, Role};
use crate::summary::Language;

/// What a program is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "name")]
pub enum Kind {
    /// Machine code and shared objects.
    Native,
    /// Machine code in one file.
    Static,
    /// Built by the Go toolchain.
    Go,
    /// It makes machine code while it runs.
    Jit(String),
    /// It runs programs in a language of its own.
    Interpreter(String),
    /// A script; the name is its interpreter's.
    Script(String),
}

/// How far a result can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// It depends on what is not in the files: run the program and compare.
    Low,
    /// Parts are guesses, each of them listed.
    Medium,
    /// All that can run was seen.
    High,
}

/// Interpreters by the start of their name, and what they run.
const INTERPRETERS: &[(&str, &str)] = &[
    ("python", "Python"),
    ("perl", "Perl"),
    ("ruby", "Ruby"),
    ("php", "PHP"),
    ("bash", "shell"),
    ("dash", "shell"),
    ("sh", "shell"),
    ("busybox", "shell"),
    ("lua", "Lua"),
    ("tclsh", "Tcl"),
    ("gawk", "AWK"),
    ("mawk", "AWK"),
];

/// Programs and libraries that make code.
const JITS: &[(&str, &str)] = &[
    ("node", "V8"),
    ("libnode", "V8"),
    ("libv8", "V8"),
    ("libjvm", "HotSpot"),
    ("libluajit", "LuaJIT"),
    ("luajit", "LuaJIT"),
    ("libmozjs", "SpiderMonkey"),
    ("libcoreclr", "CoreCLR"),
    ("deno", "V8"),
    ("bun", "JavaScriptCore"),
];

/// Judges the objects of a program.
pub(crate) fn of(objects: &[Loaded]) -> Kind {
    let name = |object: &Loaded| {
        let name = object.path.file_name();
        name.map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    let starts = objects
        .iter()
        .filter(|o| !matches!(o.role, Role::Plugin | Role::PluginLibrary));
    for object in starts {
        let name = name(object);
        if let Some((_, engine)) = JITS.iter().find(|(prefix, _)| is(&name, prefix)) {
            return Kind::Jit((*engine).to_owned());
        }
    }
    let Some(program) = objects.first() else {
        return Kind::Native;
    };
    if program.summary.language == Language::Go {
        return Kind::Go;
    }
    let own = name(program);
    if let Some((_, language)) = INTERPRETERS.iter().find(|(prefix, _)| is(&own, prefix)) {
        return Kind::Interpreter((*language).to_owned());
    }
    if program.summary.asks.needed.is_empty() && program.summary.asks.interpreter.is_none() {
        return Kind::Static;
    }
    Kind::Native
}

/// Whether a file name is `prefix`, with a version or a suffix.
fn is(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix)
        .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'))
}
