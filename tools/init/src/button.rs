//! The power button: an ACPI button that the kernel offers as an input device.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process};

use crate::kmsg;

/// Size of `struct input_event` (linux/input.h): two 64-bit times, type, code, value.
const EVENT_SIZE: usize = 24;
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;
const PRESSED: i32 = 1;

/// Watches all input devices on a thread; a pressed power key sends SIGPWR to this process.
pub fn watch() {
    let devices = devices();
    if devices.is_empty() {
        return;
    }
    let started = std::thread::Builder::new()
        .name("button".into())
        .spawn(move || wait_for_press(&devices));
    if let Err(error) = started {
        kmsg::error(&format_args!("cannot watch the power button: {error}"));
    }
}

/// All input devices, open for reading.
#[must_use]
pub fn devices() -> Vec<File> {
    device_paths()
        .into_iter()
        .filter_map(|path| File::open(path).ok())
        .collect()
}

/// Whether what was read from an input device says that the power key went down.
#[must_use]
pub fn has_press(events: &[u8]) -> bool {
    events.chunks_exact(EVENT_SIZE).any(is_power_press)
}

fn device_paths() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir("/dev/input") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("event"))
        })
        .collect()
}

fn wait_for_press(devices: &[File]) {
    loop {
        let mut ready: Vec<PollFd<'_>> = devices
            .iter()
            .map(|device| PollFd::new(device, PollFlags::IN))
            .collect();
        if poll(&mut ready, None).is_err() {
            return;
        }
        let answers: Vec<PollFlags> = ready.iter().map(PollFd::revents).collect();
        for (mut device, answer) in devices.iter().zip(answers) {
            if !answer.contains(PollFlags::IN) {
                continue;
            }
            let mut events = [0; 16 * EVENT_SIZE];
            let Ok(len) = device.read(&mut events) else {
                return;
            };
            if has_press(&events[..len]) {
                kmsg::info(&"the power button was pressed");
                // The first process exists as long as this thread does.
                let _ = kill_process(Pid::INIT, Signal::POWER);
            }
        }
    }
}

/// Whether an input event says that the power key went down.
fn is_power_press(event: &[u8]) -> bool {
    let Some(&[t0, t1, c0, c1, v0, v1, v2, v3]) = event.get(16..EVENT_SIZE) else {
        return false;
    };
    u16::from_ne_bytes([t0, t1]) == EV_KEY
        && u16::from_ne_bytes([c0, c1]) == KEY_POWER
        && i32::from_ne_bytes([v0, v1, v2, v3]) == PRESSED
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: u16, code: u16, value: i32) -> Vec<u8> {
        let mut event = vec![0xaa; 16];
        event.extend(kind.to_ne_bytes());
        event.extend(code.to_ne_bytes());
        event.extend(value.to_ne_bytes());
        event
    }

    #[test]
    fn only_the_power_key_going_down_counts() {
        assert!(is_power_press(&event(EV_KEY, KEY_POWER, PRESSED)));
        assert!(!is_power_press(&event(EV_KEY, KEY_POWER, 0)));
        assert!(!is_power_press(&event(EV_KEY, 30, PRESSED)));
        assert!(!is_power_press(&event(0, KEY_POWER, PRESSED)));
        assert!(!is_power_press(&event(EV_KEY, KEY_POWER, PRESSED)[..20]));
    }
}
