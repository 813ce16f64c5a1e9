//! Container images for microVMs.
