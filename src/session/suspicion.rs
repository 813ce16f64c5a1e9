//! What the host may have to do with a guest that does not get on.

/// Found out before the guest runs: afterwards nothing can be looked at any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Suspicion {
    /// The host's KVM is one of its processors'.
    None,
    /// The host's KVM is of another kind.
    Vague,
    /// Guests cannot run here, for this reason.
    Known(String),
}

impl Suspicion {
    /// Looks at the host; if it is of an uncommon kind and `closely`, with the probe guest, which takes some
    /// milliseconds.
    pub(crate) fn of_host(closely: bool) -> Self {
        if !vmm::host::is_uncommon() {
            return Self::None;
        }
        let known = closely.then(vmm::host::explain).flatten();
        known.map_or(Self::Vague, Self::Known)
    }

    /// What there is to say.
    pub(crate) fn sentence(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Vague => Some("`ravelin doctor` says whether this host is the reason"),
            Self::Known(sentence) => Some(sentence),
        }
    }
}
