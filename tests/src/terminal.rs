//! A program in a terminal of its own, and what its screen shows.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::pty::{Winsize, openpty};

use crate::process::until;

/// Lines and columns.
const SIZE: (NonZero<u16>, NonZero<u16>) = (
    NonZero::new(30).expect("not zero"),
    NonZero::new(120).expect("not zero"),
);

/// A program in a pseudo terminal. It is killed when this is dropped.
pub struct Terminal {
    child: Child,
    keys: File,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    /// Starts `command` in a new terminal.
    pub fn spawn(mut command: Command) -> Self {
        let size = Winsize {
            ws_row: SIZE.0.get(),
            ws_col: SIZE.1.get(),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let ends = openpty(&size, None).expect("a pseudo terminal");
        let side = || ends.slave.try_clone().expect("another descriptor");
        command.env("TERM", "xterm-256color");
        command.stdin(side()).stdout(side()).stderr(side());
        let child = command.spawn().expect("the program starts");
        // The command, and so its descriptors, must be gone for the reader to see the end.
        drop(command);
        let keys = File::from(ends.master);
        let mut output = keys.try_clone().expect("another descriptor");
        let screen = Arc::new(Mutex::new(vt100::Parser::new(SIZE.0, SIZE.1, 0)));
        let drawn = Arc::clone(&screen);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // An error is the end, too: the other side is closed.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                lock(&drawn).process(&bytes[..count]);
            }
        });
        Self { child, keys, screen }
    }

    /// Presses these keys.
    pub fn press(&mut self, keys: &str) {
        self.keys
            .write_all(keys.as_bytes())
            .expect("the terminal is there");
    }

    /// What it shows.
    pub fn text(&self) -> String {
        lock(&self.screen).screen().contents()
    }

    /// Whether the screen is the one that full-screen programs have for themselves.
    pub fn is_alternate(&self) -> bool {
        lock(&self.screen).screen().alternate_screen()
    }

    /// Waits until all of this is on the screen.
    pub async fn shows(&self, texts: &[&str]) -> String {
        let (what, mut last) = (format!("the screen to show {texts:?}"), String::new());
        let look = || {
            let text = self.text();
            if text != last {
                // Of a test that fails, this tells what was there instead.
                eprintln!("the screen:\n{text}");
                last.clone_from(&text);
            }
            texts.iter().all(|part| text.contains(part)).then_some(text)
        };
        until(&what, look).await
    }

    /// Waits until this is on the screen no more.
    pub async fn shows_no_more(&self, text: &str) {
        let what = format!("the screen without {text:?}");
        until(&what, || (!self.text().contains(text)).then_some(())).await;
    }

    /// Waits until the screen is again the one that was there before.
    pub async fn leaves_the_alternate_screen(&self) {
        let what = "the end of the alternate screen";
        until(what, || (!self.is_alternate()).then_some(())).await;
    }

    /// Waits until the program has ended.
    pub async fn exit(&mut self) -> ExitStatus {
        until("the program in the terminal to end", || {
            self.child.try_wait().expect("a child can be waited for")
        })
        .await
    }

    /// Its process id.
    pub fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lock(screen: &Mutex<vt100::Parser>) -> MutexGuard<'_, vt100::Parser> {
    screen.lock().unwrap_or_else(PoisonError::into_inner)
}
