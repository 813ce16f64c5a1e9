//! What else may end the guest: its power button, and the keyboard's chord.

use std::io;
use std::os::fd::OwnedFd;

use guest_init::button;
use guest_init::kmsg;
use guest_init::power::Ending;
use rustix::system::{RebootCommand, reboot};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::poll::Pollable;

/// Waits for a reason to end.
pub(crate) async fn ending() -> io::Result<Ending> {
    // Ctrl-Alt-Del asks this process instead of resetting at once.
    if let Err(error) = reboot(RebootCommand::CadOff) {
        kmsg::error(&format_args!("cannot take over Ctrl-Alt-Del: {error}"));
    }
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut power = signal(SignalKind::from_raw(libc::SIGPWR))?;
    let mut pressed = buttons();
    tokio::select! {
        _ = interrupt.recv() => Ok(Ending::Reboot),
        _ = terminate.recv() => Ok(Ending::Reboot),
        _ = power.recv() => Ok(Ending::PowerOff { status: 0 }),
        Some(()) = pressed.recv() => {
            kmsg::info(&"the power button was pressed");
            Ok(Ending::PowerOff { status: 0 })
        }
    }
}

/// Hears of a press of any power button.
fn buttons() -> mpsc::Receiver<()> {
    let (sender, receiver) = mpsc::channel(1);
    for device in button::devices() {
        let Ok(device) = Pollable::new(OwnedFd::from(device)) else {
            continue;
        };
        let sender = sender.clone();
        tokio::spawn(async move {
            let mut events = [0; 16 * 24];
            while let Ok(count) = device.read(&mut events).await {
                if button::has_press(&events[..count]) {
                    // One is enough.
                    let _ = sender.try_send(());
                }
            }
        });
    }
    receiver
}
