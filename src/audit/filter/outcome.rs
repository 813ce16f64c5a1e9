//! What seccomp filters can answer, and how several filters agree (seccomp(2), Linux `uapi/linux/seccomp.h`).

/// An answer, the strictest first: **of several filters' answers the kernel takes the strictest**.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Action {
    KillProcess,
    KillThread,
    Trap,
    Errno,
    Notify,
    Trace,
    Log,
    Allow,
}

const ALL: [Action; 8] = [
    Action::KillProcess,
    Action::KillThread,
    Action::Trap,
    Action::Errno,
    Action::Notify,
    Action::Trace,
    Action::Log,
    Action::Allow,
];

impl Action {
    /// The action in a filter's answer. One that the kernel does not know kills the process.
    pub(super) fn of(answer: u32) -> Self {
        match answer & libc::SECCOMP_RET_ACTION_FULL {
            libc::SECCOMP_RET_KILL_THREAD => Self::KillThread,
            libc::SECCOMP_RET_TRAP => Self::Trap,
            libc::SECCOMP_RET_ERRNO => Self::Errno,
            libc::SECCOMP_RET_USER_NOTIF => Self::Notify,
            libc::SECCOMP_RET_TRACE => Self::Trace,
            libc::SECCOMP_RET_LOG => Self::Log,
            libc::SECCOMP_RET_ALLOW => Self::Allow,
            _ => Self::KillProcess,
        }
    }

    /// Whether the kernel never runs the call. Who listens or traces could let it through, so those two do not
    /// refuse.
    fn refuses(self) -> bool {
        self <= Self::Errno
    }

    /// Its word in the report.
    fn word(self) -> &'static str {
        match self {
            Self::KillProcess => "kill-process",
            Self::KillThread => "kill-thread",
            Self::Trap => "trap",
            Self::Errno => "errno",
            Self::Notify => "notify",
            Self::Trace => "trace",
            Self::Log => "log",
            Self::Allow => "allow",
        }
    }
}

/// The actions that a call may meet, depending on its arguments: a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcomes(u8);

impl Outcomes {
    pub(super) fn only(action: Action) -> Self {
        let mut set = Self::default();
        set.add(action);
        set
    }

    /// Every action there is.
    pub(super) fn any() -> Self {
        Self(u8::MAX)
    }

    pub(super) fn add(&mut self, action: Action) {
        self.0 |= 1 << action as u8;
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(super) fn actions(self) -> impl Iterator<Item = Action> {
        ALL.into_iter()
            .filter(move |action| self.0 & (1 << *action as u8) != 0)
    }

    pub(super) fn words(self) -> impl Iterator<Item = &'static str> {
        self.actions().map(Action::word)
    }

    /// What a call may meet when two filters are asked. Which arguments lead where is not known here, so
    /// every pair counts.
    pub(super) fn and(self, other: Self) -> Self {
        let mut both = Self::default();
        for one in self.actions() {
            for two in other.actions() {
                both.add(one.min(two));
            }
        }
        both
    }

    /// Whether the call is refused whatever its arguments. No outcome at all is no proof.
    pub(super) fn refused(self) -> bool {
        self.0 != 0 && self.actions().all(Action::refuses)
    }

    /// Whether some arguments are let through and others refused.
    pub(super) fn by_argument(self) -> bool {
        let refused = self.actions().filter(|action| action.refuses()).count();
        refused > 0 && !self.refused()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_their_actions_whatever_their_data() {
        assert_eq!(Action::of(0x7fff_0000), Action::Allow);
        assert_eq!(Action::of(0x0005_0026), Action::Errno);
        assert_eq!(Action::of(0x8000_0000), Action::KillProcess);
        assert_eq!(Action::of(0), Action::KillThread);
        assert_eq!(Action::of(0x1234_0000), Action::KillProcess);
    }

    #[test]
    fn the_strictest_of_two_filters_counts() {
        let allow = Outcomes::only(Action::Allow);
        let trap = Outcomes::only(Action::Trap);
        assert_eq!(allow.and(trap), trap);
        let mut depends = allow;
        depends.add(Action::KillProcess);
        assert_eq!(depends.and(allow), depends);
        assert!(depends.and(trap).refused());
    }

    #[test]
    fn only_what_can_never_run_is_refused() {
        assert!(Outcomes::only(Action::Errno).refused());
        for action in [Action::Notify, Action::Trace, Action::Log, Action::Allow] {
            assert!(!Outcomes::only(action).refused(), "{action:?}");
        }
        assert!(!Outcomes::default().refused());
        assert!(!Outcomes::any().refused());
        assert!(Outcomes::any().by_argument());
        assert!(!Outcomes::only(Action::Allow).by_argument());
    }
}
