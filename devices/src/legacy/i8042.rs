//! The keyboard controller, with a keyboard and without a mouse: it resets the processor (`reboot=k`, and
//! the reset register of the ACPI tables), and it brings Ctrl-Alt-Del to a guest that has a driver for it.
//!
//! | port | read | write |
//! | --- | --- | --- |
//! | `0x60` | the controller's answer, or what the keyboard says | a command's argument, or a command of the keyboard |
//! | `0x64` | status | a command |
//!
//! Every command that Linux's driver sends while it looks for what is there has an answer at once: it
//! waits half a second for each that has none. Source: IBM PS/2 Hardware Interface Technical Reference.

use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use super::keyboard::{Codes, Keyboard};
use crate::bus::{BusDevice, Range};
use crate::host::{End, EndSignal};
use crate::legacy::metrics::I8042Metrics;

/// The ports of the controller: data at 0x60, status and command at 0x64.
pub const PORTS: Range = Range { base: 0x60, len: 5 };
/// The offset of the data port.
const DATA: u64 = 0;
/// The offset of the status and command port.
const COMMAND: u64 = 4;

/// Status: there is a byte to read at the data port.
const OUTPUT_FULL: u8 = 1;
/// Status: the last write was a command.
const WAS_COMMAND: u8 = 1 << 3;
/// Status: the keyboard is not locked.
const UNLOCKED: u8 = 1 << 4;

/// Configuration: the keyboard interrupts.
const KEYBOARD_INTERRUPT: u8 = 1;
/// Configuration, and shown in the status: the self-test was passed.
const SYSTEM: u8 = 1 << 2;
/// Configuration: the keyboard is kept from speaking.
const KEYBOARD_OFF: u8 = 1 << 4;
/// Configuration: the mouse is kept from speaking.
const MOUSE_OFF: u8 = 1 << 5;
/// Configuration: what the keyboard says is translated to scan code set 1.
const TRANSLATE: u8 = 1 << 6;

const READ_CONFIGURATION: u8 = 0x20;
const WRITE_CONFIGURATION: u8 = 0x60;
const SWITCH_MOUSE_OFF: u8 = 0xa7;
const SWITCH_MOUSE_ON: u8 = 0xa8;
const TEST_MOUSE: u8 = 0xa9;
const TEST_CONTROLLER: u8 = 0xaa;
const TEST_KEYBOARD: u8 = 0xab;
const SWITCH_KEYBOARD_OFF: u8 = 0xad;
const SWITCH_KEYBOARD_ON: u8 = 0xae;
const READ_OUTPUT_PORT: u8 = 0xd0;
const WRITE_OUTPUT_PORT: u8 = 0xd1;
const SAY_AS_KEYBOARD: u8 = 0xd2;
const SAY_AS_MOUSE: u8 = 0xd3;
const WRITE_MOUSE: u8 = 0xd4;
/// Pulse the reset line.
const RESET: u8 = 0xfe;

/// A keyboard controller with a keyboard.
#[derive(Debug)]
pub struct I8042 {
    end: EndSignal,
    line: EventFd,
    configuration: u8,
    /// The controller's own answer, which is read before what the keyboard says.
    answer: Option<u8>,
    /// The command whose argument comes next.
    awaits: Option<u8>,
    was_command: bool,
    keyboard: Keyboard,
    metrics: Arc<I8042Metrics>,
}

impl I8042 {
    /// A controller whose reset line ends the guest and whose keyboard interrupts by `line`.
    pub fn new(end: EndSignal, line: EventFd) -> Self {
        Self {
            end,
            line,
            // As firmware leaves it, but that the keyboard does not interrupt: who switches that on reads.
            configuration: SYSTEM | MOUSE_OFF | TRANSLATE,
            answer: None,
            awaits: None,
            was_command: false,
            keyboard: Keyboard::new(),
            metrics: Arc::default(),
        }
    }

    /// The counters of this controller.
    pub fn metrics(&self) -> Arc<I8042Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Presses Ctrl-Alt-Del. False: the guest has no driver that listens to the keyboard, and nothing was
    /// pressed.
    pub fn press_ctrl_alt_del(&mut self) -> bool {
        let listens = self.keyboard_is_on() && self.configuration & KEYBOARD_INTERRUPT != 0;
        let pressed = listens && self.keyboard.press_ctrl_alt_del(self.codes());
        if pressed {
            self.interrupt();
        }
        pressed
    }

    fn keyboard_is_on(&self) -> bool {
        self.configuration & KEYBOARD_OFF == 0
    }

    fn codes(&self) -> Codes {
        if self.configuration & TRANSLATE == 0 {
            Codes::Untranslated
        } else {
            Codes::Translated
        }
    }

    /// The input buffer is always free: nobody waits before a write.
    fn status(&self) -> u8 {
        let keyboard_speaks = self.keyboard_is_on() && self.keyboard.has_said();
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        UNLOCKED
            | (self.configuration & SYSTEM)
            | flag(self.was_command, WAS_COMMAND)
            | flag(self.answer.is_some() || keyboard_speaks, OUTPUT_FULL)
    }

    fn read_data(&mut self) -> u8 {
        if let Some(answer) = self.answer.take() {
            return answer;
        }
        if !self.keyboard_is_on() {
            return 0;
        }
        let byte = self.keyboard.read().unwrap_or_default();
        // The line is edge-triggered: one edge a byte.
        self.interrupt();
        byte
    }

    fn command(&mut self, command: u8) {
        self.awaits = None;
        match command {
            READ_CONFIGURATION => self.answer = Some(self.configuration),
            SWITCH_MOUSE_OFF => self.configuration |= MOUSE_OFF,
            SWITCH_MOUSE_ON => self.configuration &= !MOUSE_OFF,
            // Its clock line is stuck low: there is no mouse.
            TEST_MOUSE => self.answer = Some(0x01),
            TEST_CONTROLLER => self.answer = Some(0x55),
            TEST_KEYBOARD => self.answer = Some(0x00),
            SWITCH_KEYBOARD_OFF => self.configuration |= KEYBOARD_OFF,
            SWITCH_KEYBOARD_ON => {
                self.configuration &= !KEYBOARD_OFF;
                self.interrupt();
            }
            // The reset line is high and address line 20 is on, whatever is written to it.
            READ_OUTPUT_PORT => self.answer = Some(0x03),
            WRITE_CONFIGURATION | WRITE_OUTPUT_PORT | SAY_AS_KEYBOARD | SAY_AS_MOUSE
            | WRITE_MOUSE => self.awaits = Some(command),
            RESET => {
                self.metrics.reset_count.increment();
                self.end.send(End::Reset);
            }
            _ => {}
        }
    }

    fn write_data(&mut self, byte: u8) {
        match self.awaits.take() {
            Some(WRITE_CONFIGURATION) => {
                self.configuration = byte;
                self.interrupt();
            }
            // Not marked as the mouse's, by which a driver sees that there is none.
            Some(SAY_AS_KEYBOARD | SAY_AS_MOUSE) => self.answer = Some(byte),
            Some(_) => {}
            None => {
                self.configuration &= !KEYBOARD_OFF;
                self.keyboard.write(byte, self.codes());
                self.interrupt();
            }
        }
    }

    /// Raises the line when the keyboard has something to say and may.
    fn interrupt(&self) {
        let wanted = self.configuration & KEYBOARD_INTERRUPT != 0;
        if wanted && self.keyboard_is_on() && self.keyboard.has_said() {
            // An eventfd refuses only when its counter is full, and then the line is raised anyway.
            let _ = self.line.write(1);
        }
    }
}

impl BusDevice for I8042 {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        match (offset, data) {
            (DATA, [value]) => *value = self.read_data(),
            (COMMAND, [value]) => *value = self.status(),
            _ => return self.metrics.missed_read_count.increment(),
        }
        self.metrics.read_count.increment();
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        match (offset, data) {
            (DATA, [byte]) => {
                self.was_command = false;
                self.write_data(*byte);
            }
            (COMMAND, [byte]) => {
                self.was_command = true;
                self.command(*byte);
            }
            _ => return self.metrics.missed_write_count.increment(),
        }
        self.metrics.write_count.increment();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    use super::*;

    struct Bench {
        controller: I8042,
        line: EventFd,
        ends: Receiver<End>,
    }

    fn bench() -> Bench {
        let (sender, ends) = channel();
        let line = EventFd::new(EFD_NONBLOCK).unwrap();
        let end = EndSignal::new(move |end| sender.send(end).unwrap());
        Bench {
            controller: I8042::new(end, line.try_clone().unwrap()),
            line,
            ends,
        }
    }

    impl Bench {
        fn status(&mut self) -> u8 {
            let mut byte = [0];
            self.controller.read(COMMAND, &mut byte);
            byte[0]
        }

        fn data(&mut self) -> u8 {
            let mut byte = [0];
            self.controller.read(DATA, &mut byte);
            byte[0]
        }

        /// Everything there is to read, as a driver that polls reads it.
        fn said(&mut self) -> Vec<u8> {
            let mut said = Vec::new();
            while self.status() & OUTPUT_FULL != 0 {
                said.push(self.data());
            }
            said
        }

        fn command(&mut self, bytes: &[u8]) {
            if let [command, arguments @ ..] = bytes {
                self.controller.write(COMMAND, &[*command]);
                for argument in arguments {
                    self.controller.write(DATA, &[*argument]);
                }
            }
        }

        fn interrupts(&self) -> u64 {
            self.line.read().unwrap_or(0)
        }

        /// Switches the keyboard's interrupt on, as a driver does.
        fn listen(&mut self) {
            self.command(&[0x60, 0x65]);
        }
    }

    #[test]
    fn every_command_has_its_answer() {
        let table: &[(&[u8], &[u8])] = &[
            (&[0x20], &[0x64]),
            (&[0x60, 0x47], &[]),
            (&[0x20], &[0x47]),
            (&[0xa7], &[]),
            (&[0x20], &[0x67]),
            (&[0xa8], &[]),
            (&[0xad], &[]),
            (&[0x20], &[0x57]),
            (&[0xae], &[]),
            (&[0x20], &[0x47]),
            (&[0xa9], &[0x01]),
            (&[0xaa], &[0x55]),
            (&[0xab], &[0x00]),
            (&[0xd0], &[0x03]),
            (&[0xd1, 0x00], &[]),
            (&[0xd2, 0x77], &[0x77]),
            (&[0xd3, 0x5a], &[0x5a]),
            (&[0xd4, 0xf2], &[]),
            (&[0x00], &[]),
            (&[0xff], &[]),
            // The second byte is the keyboard's: a command that takes none leaves it alone.
            (&[0xab, 0xee], &[0x00, 0xee]),
            // A second command before the first one's argument.
            (&[0x60], &[]),
            (&[0xaa, 0xf4], &[0x55, 0xfa]),
            (&[0x20], &[0x47]),
        ];
        let mut bench = bench();
        for (command, answer) in table {
            bench.command(command);
            assert_eq!(bench.said(), *answer, "{command:#x?}");
        }
        assert!(bench.ends.try_recv().is_err());
    }

    #[test]
    fn the_status_says_whether_there_is_something_and_never_that_it_is_busy() {
        let mut bench = bench();
        assert_eq!(bench.status(), UNLOCKED | SYSTEM);
        bench.command(&[0xaa]);
        let full = UNLOCKED | SYSTEM | WAS_COMMAND | OUTPUT_FULL;
        assert_eq!(bench.status(), full);
        assert_eq!(bench.data(), 0x55);
        assert_eq!(bench.status(), full & !OUTPUT_FULL);
    }

    #[test]
    fn what_the_keyboard_says_interrupts_once_a_byte_when_that_is_switched_on() {
        let mut bench = bench();
        bench.controller.write(DATA, &[0xf2]);
        assert_eq!(bench.interrupts(), 0);
        bench.listen();
        for byte in [0xfa, 0xab, 0x41] {
            assert_eq!(bench.interrupts(), 1);
            assert_eq!(bench.data(), byte);
        }
        assert_eq!(bench.interrupts(), 0);
    }

    #[test]
    fn a_keyboard_that_is_switched_off_waits() {
        let mut bench = bench();
        bench.listen();
        bench.controller.write(DATA, &[0xee]);
        bench.command(&[0xad]);
        assert!(bench.said().is_empty());
        assert_eq!(bench.data(), 0);
        bench.interrupts();
        bench.command(&[0xae]);
        assert_eq!(bench.interrupts(), 1);
        assert_eq!(bench.said(), [0xee]);
    }

    #[test]
    fn ctrl_alt_del_is_pressed_only_for_a_driver_that_listens() {
        let mut bench = bench();
        assert!(!bench.controller.press_ctrl_alt_del());
        bench.listen();
        assert!(bench.controller.press_ctrl_alt_del());
        assert_eq!(bench.interrupts(), 1);
        let translated = [0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d];
        assert_eq!(bench.said(), translated);
        bench.command(&[0xad]);
        assert!(!bench.controller.press_ctrl_alt_del());
        bench.command(&[0x60, 0x25]);
        assert!(bench.controller.press_ctrl_alt_del());
        assert_eq!(bench.said()[..4], [0x14, 0x11, 0xe0, 0x71]);
        assert!(bench.controller.press_ctrl_alt_del());
        assert!(!bench.controller.press_ctrl_alt_del(), "nobody reads");
    }

    #[test]
    fn the_reset_command_ends_the_guest_and_nothing_else_does() {
        let mut bench = bench();
        bench.controller.write(DATA, &[RESET]);
        bench.command(&[0xd1, RESET]);
        bench.controller.write(COMMAND, &[RESET, RESET]);
        assert!(bench.ends.try_recv().is_err());
        bench.command(&[RESET]);
        assert_eq!(bench.ends.try_recv(), Ok(End::Reset));
        let metrics = bench.controller.metrics();
        assert_eq!(metrics.reset_count.get(), 1);
        assert_eq!(metrics.write_count.get(), 4);
        assert_eq!(metrics.missed_write_count.get(), 1);
    }

    #[test]
    fn whatever_a_guest_writes_a_driver_finds_an_empty_buffer_soon() {
        let mut bench = bench();
        let mut state = 1_u32;
        for _ in 0..50_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let [_, byte, port, times] = state.to_le_bytes();
            if byte == RESET {
                continue;
            }
            let offset = u64::from(port % 6);
            bench
                .controller
                .write(offset, &[byte][..usize::from(times % 7 != 0)]);
            bench.controller.press_ctrl_alt_del();
        }
        // Linux reads sixteen bytes before it takes the controller for absent.
        assert!(bench.said().len() <= 17);
        bench.command(&[0xaa]);
        assert_eq!(bench.said(), [0x55]);
    }
}
