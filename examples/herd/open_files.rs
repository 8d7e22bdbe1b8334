//! How many files a process may have open: a connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::Error;

/// Raises the soft limit as far as this user may; servers that start later inherit it.
pub fn allow(needed: u64) -> Result<(), Error> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if is_enough(current, needed) {
        return Ok(());
    }
    let raised = Rlimit { current: maximum, maximum };
    if is_enough(maximum, needed) && setrlimit(Resource::Nofile, raised).is_ok() {
        return Ok(());
    }
    let most = maximum.or(current).unwrap_or(u64::MAX);
    Err(Error::BadInput(format!(
        "so many processes need {needed} open files, and {most} are allowed: raise the limit \
         (`ulimit -n {needed}`, perhaps as root), or use fewer --processes"
    )))
}

/// `None` is no limit.
fn is_enough(limit: Option<u64>, needed: u64) -> bool {
    limit.is_none_or(|limit| limit >= needed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_may_be_open_is_said_in_one_line() {
        let Err(Error::BadInput(line)) = allow(u64::MAX / 2) else {
            assert_eq!(getrlimit(Resource::Nofile).maximum, None);
            return;
        };
        assert!(line.contains("ulimit -n") && !line.contains('\n'), "{line}");
    }
}
