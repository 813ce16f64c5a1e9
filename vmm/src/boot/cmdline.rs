//! The kernel command line: defaults first, what the user appends last, so that the user has the last
//! word, and words after `--` (which Linux hands to init) stay at the end.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use vm_memory::Address;

use super::MmioSlot;
use crate::arch::x86_64::layout;

/// What every guest is told unless the user replaces it: console on the serial port; reset by the
/// keyboard controller, warm when a panic resets; a panic resets after a second.
pub const DEFAULT: &str = "console=ttyS0 reboot=k,panic_warm panic=1";

/// The parameter that carries the guest's command.
const COMMAND: &str = "ravelin.command";

/// Bytes that stand for themselves in [`COMMAND`]: no space, quote, percent sign or control character.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'/')
    .remove(b':')
    .remove(b',')
    .remove(b'=')
    .remove(b'+')
    .remove(b'@');

/// What is wrong with a command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandLineError {
    /// Longer than the kernel takes.
    #[error(
        "the kernel command line has {length} bytes and this kernel takes {limit}: shorten --cmdline or \
         the guest's command"
    )]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The most there may be.
        limit: usize,
    },
    /// A character that a command line cannot hold.
    #[error(
        "the kernel command line holds {0:?}, and only printable characters are possible: remove it"
    )]
    Unprintable(char),
}

/// A kernel command line under construction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// What the machine says.
    machine: String,
    /// What the user appends.
    user: String,
}

impl Default for CommandLine {
    fn default() -> Self {
        Self {
            machine: DEFAULT.to_owned(),
            user: String::new(),
        }
    }
}

impl CommandLine {
    /// A command line with nothing on it but `text`: for callers that know better than [`DEFAULT`].
    ///
    /// # Errors
    /// [`CommandLineError::Unprintable`].
    pub fn bare(text: &str) -> Result<Self, CommandLineError> {
        let mut line = Self {
            machine: String::new(),
            user: String::new(),
        };
        line.append(text)?;
        Ok(line)
    }

    /// Adds a word of the machine's own, before everything the user says.
    ///
    /// # Errors
    /// [`CommandLineError::Unprintable`].
    pub fn add(&mut self, text: &str) -> Result<(), CommandLineError> {
        join(&mut self.machine, text)
    }

    /// Appends what the user says.
    ///
    /// # Errors
    /// [`CommandLineError::Unprintable`].
    pub fn append(&mut self, text: &str) -> Result<(), CommandLineError> {
        join(&mut self.user, text)
    }

    /// Adds the command that the guest's init is to run: its words, percent-encoded, between `%00`.
    ///
    /// # Errors
    /// None today: the encoding has only printable characters.
    pub fn add_command<S: AsRef<OsStr>>(&mut self, words: &[S]) -> Result<(), CommandLineError> {
        let encoded: Vec<String> = words
            .iter()
            .map(|word| percent_encode(word.as_ref().as_bytes(), PLAIN).to_string())
            .collect();
        self.add(&format!("{COMMAND}={}", encoded.join("%00")))
    }

    /// Whether the guest will not look at ACPI tables.
    pub fn turns_acpi_off(&self) -> bool {
        let words = [&self.machine, &self.user]
            .into_iter()
            .flat_map(|text| text.split_ascii_whitespace());
        words
            .take_while(|word| *word != "--")
            .any(|word| word == "acpi=off")
    }

    /// Tells of virtio-mmio devices without ACPI (Linux `CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES`).
    ///
    /// # Errors
    /// None today: addresses are printable.
    pub fn add_mmio_devices(&mut self, slots: &[MmioSlot]) -> Result<(), CommandLineError> {
        slots.iter().try_for_each(|slot| {
            self.add(&format!(
                "virtio_mmio.device={}K@{:#x}:{}",
                layout::MMIO_SLOT_SIZE >> 10,
                slot.address.raw_value(),
                slot.gsi
            ))
        })
    }

    /// The text so far.
    pub fn text(&self) -> String {
        [&self.machine, &self.user]
            .into_iter()
            .filter(|text| !text.is_empty())
            .cloned()
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// The bytes with their terminating zero, at most `size` of them.
    ///
    /// # Errors
    /// [`CommandLineError::TooLong`].
    pub fn terminated(&self, size: usize) -> Result<Vec<u8>, CommandLineError> {
        let mut bytes = self.text().into_bytes();
        if bytes.len() >= size {
            return Err(CommandLineError::TooLong {
                length: bytes.len(),
                limit: size.saturating_sub(1),
            });
        }
        bytes.push(0);
        Ok(bytes)
    }
}

fn join(line: &mut String, text: &str) -> Result<(), CommandLineError> {
    let text = text.trim();
    if let Some(character) = text.chars().find(|character| character.is_control()) {
        return Err(CommandLineError::Unprintable(character));
    }
    if !line.is_empty() && !text.is_empty() {
        line.push(' ');
    }
    line.push_str(text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::GuestAddress;

    fn with(text: &str) -> CommandLine {
        let mut line = CommandLine::default();
        line.append(text).unwrap();
        line
    }

    #[test]
    fn the_users_words_come_last() {
        let mut line = with("quiet -- single");
        line.add("root=/dev/vda ro").unwrap();
        let expected = format!("{DEFAULT} root=/dev/vda ro quiet -- single");
        assert_eq!(line.text(), expected);
        assert_eq!(CommandLine::bare(" a  b ").unwrap().text(), "a  b");
    }

    #[test]
    fn a_command_is_one_printable_word() {
        let mut line = CommandLine::bare("").unwrap();
        line.add_command(&["uname", "-a"]).unwrap();
        line.add_command(&["sh", "-c", "echo \"a b\" 100%\n", "", "é"])
            .unwrap();
        assert_eq!(
            line.text(),
            "ravelin.command=uname%00-a \
             ravelin.command=sh%00-c%00echo%20%22a%20b%22%20100%25%0A%00%00%C3%A9"
        );
    }

    #[test]
    fn acpi_is_off_only_by_its_own_word_before_the_dashes() {
        for (text, off) in [
            ("", false),
            ("acpi=off", true),
            ("quiet acpi=off nosmp", true),
            ("acpi=offset", false),
            ("-- acpi=off", false),
        ] {
            assert_eq!(with(text).turns_acpi_off(), off, "{text}");
        }
    }

    #[test]
    fn devices_stand_on_the_line_with_size_address_and_interrupt() {
        let mut line = CommandLine::bare("").unwrap();
        let slot = MmioSlot {
            address: GuestAddress(0xc000_1000),
            gsi: 6,
        };
        line.add_mmio_devices(&[slot]).unwrap();
        assert_eq!(line.text(), "virtio_mmio.device=4K@0xc0001000:6");
    }

    #[test]
    fn length_is_limited_with_the_terminating_zero() {
        let line = CommandLine::bare(&"x".repeat(10)).unwrap();
        assert_eq!(line.terminated(11).unwrap().len(), 11);
        assert_eq!(
            line.terminated(10),
            Err(CommandLineError::TooLong {
                length: 10,
                limit: 9
            })
        );
        assert!(line.terminated(0).is_err());
    }

    #[test]
    fn control_characters_are_refused() {
        for text in ["a\nb", "a\0b", "a\u{7f}b"] {
            assert!(CommandLine::bare(text).is_err(), "{text:?}");
        }
    }
}
