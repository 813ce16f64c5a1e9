//! A keyboard on the wire of PS/2: it answers its driver's commands and has three keys.
//!
//! Commands and answers: IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device
//! Controller". The keys are Ctrl, Alt and Delete; the LEDs are dark and nothing repeats.

use std::collections::VecDeque;

/// What the keyboard says and nobody has read yet, at most.
const CAPACITY: usize = 16;

const ACKNOWLEDGE: u8 = 0xfa;
const RESEND: u8 = 0xfe;
const TEST_PASSED: u8 = 0xaa;

const SET_LEDS: u8 = 0xed;
const ECHO: u8 = 0xee;
const SET_CODES: u8 = 0xf0;
const IDENTIFY: u8 = 0xf2;
const SET_REPETITION: u8 = 0xf3;
const ENABLE: u8 = 0xf4;
const DISABLE: u8 = 0xf5;
const SET_DEFAULTS: u8 = 0xf6;
const RESET: u8 = 0xff;

/// Ctrl, Alt and Delete go down and up again, in scan code set 2.
const CTRL_ALT_DEL: &[u8] = &[
    0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0, 0x14,
];
/// The same as a controller translates it, in set 1.
const CTRL_ALT_DEL_TRANSLATED: &[u8] = &[0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d];

/// Whether the controller translates what the keyboard says from scan code set 2 to set 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codes {
    /// Set 2, as it is.
    Untranslated,
    /// Set 1.
    Translated,
}

/// A keyboard. **Its memory is bounded: what does not fit is not said.**
#[derive(Debug)]
pub(super) struct Keyboard {
    says: VecDeque<u8>,
    /// The command whose argument comes next.
    awaits: Option<u8>,
    /// Whether keys are told.
    scans: bool,
}

impl Keyboard {
    /// A keyboard after power-on: it tells keys, without being asked to.
    pub(super) fn new() -> Self {
        Self {
            says: VecDeque::with_capacity(CAPACITY),
            awaits: None,
            scans: true,
        }
    }

    /// Whether it has something to say.
    pub(super) fn has_said(&self) -> bool {
        !self.says.is_empty()
    }

    /// The next byte it says.
    pub(super) fn read(&mut self) -> Option<u8> {
        self.says.pop_front()
    }

    /// Takes a command, or the argument of one.
    pub(super) fn write(&mut self, byte: u8, codes: Codes) {
        match self.awaits.take() {
            Some(command) => self.take_argument(command, byte, codes),
            None => self.obey(byte, codes),
        }
    }

    /// Presses Ctrl, Alt and Delete and lets them go. False: the keys are not told, or nobody reads what
    /// was told before.
    pub(super) fn press_ctrl_alt_del(&mut self, codes: Codes) -> bool {
        let keys = match codes {
            Codes::Untranslated => CTRL_ALT_DEL,
            Codes::Translated => CTRL_ALT_DEL_TRANSLATED,
        };
        let fits = self.says.len().saturating_add(keys.len()) <= CAPACITY;
        let told = self.scans && fits;
        if told {
            self.says.extend(keys);
        }
        told
    }

    fn obey(&mut self, command: u8, codes: Codes) {
        match command {
            SET_LEDS | SET_CODES | SET_REPETITION => {
                self.awaits = Some(command);
                self.say(&[ACKNOWLEDGE]);
            }
            ECHO => self.say(&[ECHO]),
            // The name of every keyboard with 101 keys or more.
            IDENTIFY => match codes {
                Codes::Untranslated => self.say(&[ACKNOWLEDGE, 0xab, 0x83]),
                Codes::Translated => self.say(&[ACKNOWLEDGE, 0xab, 0x41]),
            },
            ENABLE => {
                self.scans = true;
                self.say(&[ACKNOWLEDGE]);
            }
            DISABLE => {
                self.scans = false;
                self.say(&[ACKNOWLEDGE]);
            }
            SET_DEFAULTS => self.say(&[ACKNOWLEDGE]),
            RESET => {
                *self = Self::new();
                self.say(&[ACKNOWLEDGE, TEST_PASSED]);
            }
            _ => self.say(&[RESEND]),
        }
    }

    fn take_argument(&mut self, command: u8, argument: u8, codes: Codes) {
        match (command, argument, codes) {
            // Which codes there are: set 2, and no other.
            (SET_CODES, 0, Codes::Untranslated) => self.say(&[ACKNOWLEDGE, 0x02]),
            (SET_CODES, 0, Codes::Translated) => self.say(&[ACKNOWLEDGE, 0x41]),
            (SET_CODES, 1 | 3.., _) => self.say(&[RESEND]),
            _ => self.say(&[ACKNOWLEDGE]),
        }
    }

    /// An answer takes the place of what nobody reads.
    fn say(&mut self, answer: &[u8]) {
        if self.says.len().saturating_add(answer.len()) > CAPACITY {
            self.says.clear();
        }
        self.says.extend(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(keyboard: &mut Keyboard) -> Vec<u8> {
        std::iter::from_fn(|| keyboard.read()).collect()
    }

    #[test]
    fn every_command_has_its_answer() {
        let table: &[(&[u8], &[u8])] = &[
            (&[0xed, 0x02], &[0xfa, 0xfa]),
            (&[0xee], &[0xee]),
            (&[0xf0, 0x00], &[0xfa, 0xfa, 0x41]),
            (&[0xf0, 0x02], &[0xfa, 0xfa]),
            (&[0xf0, 0x03], &[0xfa, 0xfe]),
            (&[0xf2], &[0xfa, 0xab, 0x41]),
            (&[0xf3, 0x00], &[0xfa, 0xfa]),
            (&[0xf4], &[0xfa]),
            (&[0xf5], &[0xfa]),
            (&[0xf6], &[0xfa]),
            (&[0xff], &[0xfa, 0xaa]),
            (&[0x00], &[0xfe]),
            (&[0xef], &[0xfe]),
            // An argument is no command, whatever its value.
            (&[0xed, 0xff, 0xee], &[0xfa, 0xfa, 0xee]),
        ];
        let mut keyboard = Keyboard::new();
        for (commands, answers) in table {
            for command in *commands {
                keyboard.write(*command, Codes::Translated);
            }
            assert_eq!(said(&mut keyboard), *answers, "{commands:#x?}");
        }
    }

    #[test]
    fn without_translation_its_name_and_its_codes_are_of_set_2() {
        let mut keyboard = Keyboard::new();
        for command in [0xf2, 0xf0, 0x00] {
            keyboard.write(command, Codes::Untranslated);
        }
        let answers = [0xfa, 0xab, 0x83, 0xfa, 0xfa, 0x02];
        assert_eq!(said(&mut keyboard), answers);
        assert!(keyboard.press_ctrl_alt_del(Codes::Untranslated));
        assert_eq!(said(&mut keyboard), CTRL_ALT_DEL);
    }

    #[test]
    fn each_key_that_goes_down_goes_up_again() {
        let mut keyboard = Keyboard::new();
        assert!(keyboard.press_ctrl_alt_del(Codes::Translated));
        let codes = said(&mut keyboard);
        for down in [0x1d, 0x38, 0x53] {
            let at = |code| codes.iter().position(|said| *said == code).unwrap();
            assert!(at(down) < at(down | 0x80), "{down:#x}");
        }
    }

    #[test]
    fn keys_are_not_told_while_they_are_switched_off() {
        let mut keyboard = Keyboard::new();
        keyboard.write(0xf5, Codes::Translated);
        said(&mut keyboard);
        assert!(!keyboard.press_ctrl_alt_del(Codes::Translated));
        keyboard.write(0xf4, Codes::Translated);
        assert!(keyboard.press_ctrl_alt_del(Codes::Translated));
    }

    #[test]
    fn a_driver_that_never_reads_is_answered_still_and_nothing_grows() {
        let mut keyboard = Keyboard::new();
        for round in 0..10_000_u32 {
            keyboard.write(round.to_le_bytes()[0], Codes::Translated);
            keyboard.press_ctrl_alt_del(Codes::Translated);
            assert!(keyboard.says.len() <= CAPACITY);
        }
        keyboard.write(0xff, Codes::Translated);
        keyboard.write(0xff, Codes::Translated);
        assert!(said(&mut keyboard).ends_with(&[0xfa, 0xaa]));
    }

    #[test]
    fn keys_do_not_push_out_what_was_not_read() {
        let mut keyboard = Keyboard::new();
        assert!(keyboard.press_ctrl_alt_del(Codes::Translated));
        assert!(keyboard.press_ctrl_alt_del(Codes::Translated));
        assert!(!keyboard.press_ctrl_alt_del(Codes::Translated));
        assert_eq!(said(&mut keyboard).len(), 16);
    }
}
