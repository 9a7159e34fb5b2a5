//! The terminal that the view is on: taken, drawn on, read from, and given back whatever happens.

use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};
use std::panic;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};
use crossterm::{cursor, execute};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::signal::unix::{SignalKind, signal};

use super::buffer::Buffer;
use super::output::Output;
use super::view::{Kept, Key, View};
use crate::trace::journey::{Journey, Step, Totals};
use crate::trace::render::{Names, Renderer};
use crate::trace::summary::Summary;

/// The screen is drawn no more often.
const FRAME: Duration = Duration::from_millis(50);

/// Whether the terminal is to be given back.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Why there can be no live view.
///
/// # Errors
/// In words, what is missing.
pub fn possible() -> Result<(), String> {
    let missing = match (io::stdin().is_terminal(), io::stdout().is_terminal()) {
        (true, true) => return Ok(()),
        (false, true) => "standard input is not a terminal",
        _ => "standard output is not a terminal",
    };
    Err(missing.to_owned())
}

/// The live view on this process's terminal.
pub struct Screen {
    view: View,
    colours: bool,
    shown: Option<Buffer>,
    drawn: Option<Instant>,
    /// Whether there is something new to draw.
    stale: bool,
    signalled: Arc<AtomicBool>,
    notices: Vec<String>,
    summary: Option<Summary>,
}

/// A handle on a screen, which is also what journeys are rendered with.
#[derive(Clone)]
pub struct Handle(Rc<RefCell<Screen>>);

impl Handle {
    /// Take the terminal. `follow`: the newest packet is chosen as it comes; `state` is what goes on.
    ///
    /// # Errors
    /// When it refuses.
    pub fn open(names: Rc<Names>, colours: bool, follow: bool, state: &str) -> io::Result<Handle> {
        let mut view = View::new(names, Kept::default(), follow);
        view.state = state.to_owned();
        // It is decided already.
        crossterm::style::force_color_output(true);
        let signalled = watch_signals()?;
        give_back_on_panic();
        // From here on there is something to give back.
        TAKEN.store(true, Ordering::SeqCst);
        let mut screen = Screen {
            view,
            colours,
            shown: None,
            drawn: None,
            stale: true,
            signalled,
            notices: vec![],
            summary: None,
        };
        enable_raw_mode()?;
        execute!(io::stdout(), EnterAlternateScreen, cursor::Hide)?;
        screen.draw()?;
        Ok(Handle(Rc::new(RefCell::new(screen))))
    }

    /// Nothing more comes: lets the user look on until it is enough. Returns at once if it was already.
    ///
    /// # Errors
    /// The terminal's.
    pub fn linger(&self, state: &str) -> io::Result<()> {
        let mut screen = self.0.borrow_mut();
        state.clone_into(&mut screen.view.state);
        screen.stale = true;
        while !screen.over() {
            screen.turn()?;
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Says what is going on now.
    ///
    /// # Errors
    /// The terminal's.
    pub fn say(&self, state: &str) -> io::Result<()> {
        let mut screen = self.0.borrow_mut();
        state.clone_into(&mut screen.view.state);
        screen.draw()
    }

    /// Something to say when the terminal has been given back.
    pub fn note(&self, line: &str) {
        self.0.borrow_mut().notices.push(line.to_owned());
    }

    /// Gives the terminal back, and says there what was said meanwhile: by the command, by the run, and the run's sum.
    ///
    /// # Errors
    /// The terminal's.
    pub fn close(self, output: &Output) -> io::Result<()> {
        give_back();
        let screen = self.0.borrow();
        for line in &screen.notices {
            writeln!(io::stderr(), "ktrail: {line}")?;
        }
        let mut out = io::stdout().lock();
        output.write(&mut out)?;
        if let Some(summary) = &screen.summary {
            write!(out, "{summary}")?;
        }
        out.flush()
    }
}

impl Screen {
    fn over(&self) -> bool {
        self.view.quit || self.signalled.load(Ordering::SeqCst)
    }

    /// Takes the keys that were pressed, and draws if it is time to.
    fn turn(&mut self) -> io::Result<()> {
        if terminal_is_gone() {
            // crossterm would look for its keys for ever.
            self.signalled.store(true, Ordering::SeqCst);
            return Ok(());
        }
        let mut pressed = false;
        while event::poll(Duration::ZERO)? {
            if let Event::Key(event) = event::read()?
                && let Some(key) = key(event)
            {
                self.view.press(key);
                pressed = true;
            }
        }
        self.stale |= pressed;
        let due = self.drawn.is_none_or(|drawn| drawn.elapsed() >= FRAME);
        // The size is asked for, not waited for: a window's change is no news where no frame is due.
        if pressed || due && (self.stale || size()? != self.size()) {
            self.draw()?;
        }
        Ok(())
    }

    fn size(&self) -> (u16, u16) {
        let area = self.shown.as_ref().map(Buffer::area).unwrap_or_default();
        (area.width as u16, area.height as u16)
    }

    fn draw(&mut self) -> io::Result<()> {
        let (width, height) = size()?;
        self.view.resize(width.into(), height.into());
        let frame = self.view.frame();
        // All at once, so that nothing half drawn is seen.
        let mut commands = vec![];
        frame.show(self.shown.as_ref(), self.colours, &mut commands)?;
        let mut out = io::stdout().lock();
        out.write_all(&commands)?;
        out.flush()?;
        self.shown = Some(frame);
        self.drawn = Some(Instant::now());
        self.stale = false;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

impl Renderer for Handle {
    fn event(&mut self, number: u64, step: &Step) -> io::Result<()> {
        let mut screen = self.0.borrow_mut();
        screen.view.event(number, step);
        screen.stale = true;
        Ok(())
    }

    fn ended(&mut self, journey: &Journey) -> io::Result<()> {
        let mut screen = self.0.borrow_mut();
        screen.view.ended(journey);
        screen.stale = true;
        Ok(())
    }

    fn journey(&mut self, _: &Journey) -> io::Result<()> {
        Ok(())
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        let mut screen = self.0.borrow_mut();
        screen.view.totals = summary.totals;
        screen.summary = Some(summary.clone());
        screen.stale = true;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.borrow_mut().turn()
    }

    fn counted(&mut self, totals: &Totals) {
        let mut screen = self.0.borrow_mut();
        screen.stale |= screen.view.totals != *totals;
        screen.view.totals = *totals;
    }

    fn over(&self) -> bool {
        self.0.borrow().over()
    }

    fn notice(&mut self, line: &str) {
        let mut screen = self.0.borrow_mut();
        screen.view.notice = Some(line.to_owned());
        screen.notices.push(line.to_owned());
        screen.stale = true;
    }
}

/// The key, if it is one that the view knows.
fn key(event: KeyEvent) -> Option<Key> {
    if event.kind == KeyEventKind::Release {
        return None;
    }
    let control = event.modifiers.contains(KeyModifiers::CONTROL);
    Some(match event.code {
        KeyCode::Char('c') if control => Key::Interrupt,
        KeyCode::Char(_) if control || event.modifiers.contains(KeyModifiers::ALT) => return None,
        KeyCode::Char(char) => Key::Char(char),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Enter => Key::Enter,
        KeyCode::Tab => Key::Tab,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        _ => return None,
    })
}

/// Whether the other end of the terminal is closed. SIGHUP tells that to the terminal's own session only.
fn terminal_is_gone() -> bool {
    let stdin = io::stdin();
    let mut ends = [PollFd::new(&stdin, PollFlags::empty())];
    let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
    poll(&mut ends, Some(&Timespec::default())).is_ok() && ends[0].revents().intersects(gone)
}

/// Gives the terminal back, once.
fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        // If the terminal is gone, there is nothing to do for it.
        let _ = execute!(io::stdout(), LeaveAlternateScreen, cursor::Show);
        let _ = disable_raw_mode();
    }
}

/// A panic ends the process where it is: its message must be readable.
fn give_back_on_panic() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        give_back();
        before(panic);
    }));
}

/// Whoever ends this process by a signal gets an orderly end, too. The run may be busy elsewhere, so a thread waits.
fn watch_signals() -> io::Result<Arc<AtomicBool>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    drop(guard);
    let signalled = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&signalled);
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        });
        told.store(true, Ordering::SeqCst);
    });
    Ok(signalled)
}
