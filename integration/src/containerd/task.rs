use crate::error::Result;

use super::Containerd;

/// A line of `ctr tasks ls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The init process, in the enclave's numbering.
    pub pid: i32,
    /// RUNNING, PAUSED, STOPPED, CREATED.
    pub status: String,
}

impl Containerd {
    /// The task of a container, if it has one.
    ///
    /// # Errors
    /// If `ctr` fails.
    pub fn task(&self, id: &str) -> Result<Option<Status>> {
        let list = self.ctr(["tasks", "ls"]).ok()?;
        let line = list
            .stdout
            .lines()
            .find(|line| line.split_whitespace().next() == Some(id));
        Ok(line.and_then(|line| {
            let mut words = line.split_whitespace().skip(1);
            Some(Status {
                pid: words.next()?.parse().ok()?,
                status: words.next()?.to_owned(),
            })
        }))
    }

    /// The init process of a running container, in the host's numbering.
    ///
    /// # Errors
    /// If there is none.
    pub fn init_of(&self, id: &str) -> Result<i32> {
        let inner = self.task(id)?.map(|task| task.pid);
        let all = crate::cases::Engine::enclave(self).processes()?;
        all.iter()
            .find(|process| process.nested.get(1) == inner.as_ref())
            .map(|process| process.pid)
            .ok_or_else(|| crate::error::Error::Missing {
                what: format!("a running task of {id}"),
                remedy: "look at containerd's log",
            })
    }
}
