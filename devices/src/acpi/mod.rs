//! The hardware behind the ACPI tables.

pub mod power;
