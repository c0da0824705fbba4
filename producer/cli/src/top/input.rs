//! What keys ask for.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::action::Action;
use super::model::Mode;

/// A page, in rows.
const PAGE: isize = 10;

/// More rows than there are.
const ALL: isize = isize::MAX / 2;

/// What a key asks for; `None` for one that asks for nothing.
pub(crate) fn action(key: KeyEvent, mode: &Mode) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    if control {
        return (key.code == KeyCode::Char('c')).then_some(Action::Quit);
    }
    match mode {
        Mode::Choosing => choosing(key.code),
        Mode::Typing => typing(key.code),
        Mode::Asking(_) => asking(key.code),
    }
}

fn choosing(code: KeyCode) -> Option<Action> {
    Some(match code {
        KeyCode::Char('q') => Action::Quit,
        KeyCode::Char('1') => Action::ShowFleet,
        KeyCode::Char('2') => Action::ShowKickoffs,
        KeyCode::Tab | KeyCode::BackTab => Action::ShowNext,
        KeyCode::Char('j') | KeyCode::Down => Action::Step(1),
        KeyCode::Char('k') | KeyCode::Up => Action::Step(-1),
        KeyCode::PageDown => Action::Step(PAGE),
        KeyCode::PageUp => Action::Step(-PAGE),
        KeyCode::Home | KeyCode::Char('g') => Action::Step(-ALL),
        KeyCode::End | KeyCode::Char('G') => Action::Step(ALL),
        KeyCode::Left | KeyCode::Char('h') => Action::ToWorkers,
        KeyCode::Right | KeyCode::Char('l') => Action::ToCrews,
        KeyCode::Enter => Action::Open,
        KeyCode::Esc => Action::Back,
        KeyCode::Char('/') => Action::Filter,
        KeyCode::Char('p') => Action::PauseOrResume,
        KeyCode::Char('d') => Action::Drain,
        KeyCode::Char('c') => Action::Cancel,
        _ => return None,
    })
}

fn typing(code: KeyCode) -> Option<Action> {
    Some(match code {
        KeyCode::Char(letter) => Action::Type(letter),
        KeyCode::Backspace => Action::Erase,
        KeyCode::Enter => Action::Typed,
        KeyCode::Esc => Action::Back,
        KeyCode::Down => Action::Step(1),
        KeyCode::Up => Action::Step(-1),
        _ => return None,
    })
}

/// Only `y` is a yes.
fn asking(code: KeyCode) -> Option<Action> {
    match code {
        KeyCode::Char('y' | 'Y') => Some(Action::Yes),
        KeyCode::Char('n' | 'N') | KeyCode::Esc | KeyCode::Char('q') => Some(Action::No),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::command::Command;
    use super::*;

    #[test]
    fn keys_mean_what_the_mode_says() {
        let key = |code| KeyEvent::new(code, KeyModifiers::NONE);
        let asking = Mode::Asking(Command::Drain("a".into()));
        let q = key(KeyCode::Char('q'));
        assert_eq!(action(q, &Mode::Choosing), Some(Action::Quit));
        assert_eq!(action(q, &Mode::Typing), Some(Action::Type('q')));
        assert_eq!(action(q, &asking), Some(Action::No));
        assert_eq!(action(key(KeyCode::Enter), &asking), None);
        assert_eq!(action(key(KeyCode::Char('y')), &asking), Some(Action::Yes));
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        for mode in [Mode::Choosing, Mode::Typing, asking] {
            assert_eq!(action(interrupt, &mode), Some(Action::Quit));
        }
    }
}
