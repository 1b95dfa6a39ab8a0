//! Questions to a person.

use std::io::{self, BufRead, IsTerminal, Write};

/// Asks on standard error and reads a line.
///
/// # Errors
/// When standard input is no terminal, or ends.
pub fn ask(question: &str) -> io::Result<String> {
    if !io::stdin().is_terminal() {
        return Err(io::Error::other("standard input is no terminal"));
    }
    let mut err = io::stderr().lock();
    write!(err, "{question}")?;
    err.flush()?;
    let mut line = String::new();
    if io::stdin().lock().read_line(&mut line)? == 0 {
        return Err(io::Error::other("standard input ended"));
    }
    Ok(line.trim().to_owned())
}

/// Asks for something nobody should see.
///
/// # Errors
/// As [`ask`]; `Interrupted` when the answer is Ctrl-C.
#[cfg(unix)]
pub fn ask_hidden(question: &str) -> io::Result<String> {
    use std::io::Read;

    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(io::Error::other("standard input is no terminal"));
    }
    // Without signals and line editing, so that the terminal is itself again however this ends; and
    // before the question, so that nothing typed after it is shown.
    let _quiet = Quiet::new()?;
    let mut err = io::stderr();
    write!(err, "{question}")?;
    err.flush()?;
    let mut typed = Vec::new();
    for byte in stdin.lock().bytes() {
        match byte? {
            b'\n' | b'\r' => break,
            0x03 => return Err(io::ErrorKind::Interrupted.into()),
            0x04 if typed.is_empty() => return Err(io::Error::other("standard input ended")),
            0x08 | 0x7f => {
                // A whole character goes, not its last byte.
                while typed.pop().is_some_and(|byte: u8| byte & 0xc0 == 0x80) {}
            }
            0x15 => typed.clear(),
            byte => typed.push(byte),
        }
    }
    String::from_utf8(typed).map_err(|_| io::Error::other("what was typed is not UTF-8"))
}

/// Asks for something nobody should see.
///
/// # Errors
/// Always: hiding what is typed is only known for Unix terminals.
#[cfg(not(unix))]
pub fn ask_hidden(_question: &str) -> io::Result<String> {
    Err(io::Error::other("typing it unseen is not supported on this system"))
}

/// The terminal without echo, until dropped.
#[cfg(unix)]
pub(crate) struct Quiet {
    before: nix::sys::termios::Termios,
    /// The cursor stands behind a question.
    asked: bool,
}

/// No other system's terminals are known.
#[cfg(not(unix))]
pub(crate) struct Quiet;

#[cfg(not(unix))]
impl Quiet {
    pub(crate) fn keys() -> io::Result<Quiet> {
        Ok(Quiet)
    }
}

#[cfg(unix)]
impl Quiet {
    fn new() -> io::Result<Quiet> {
        use nix::sys::termios::LocalFlags;

        Quiet::without(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG, true)
    }

    /// Single keys are read as they are pressed; Ctrl-C is still a signal.
    pub(crate) fn keys() -> io::Result<Quiet> {
        use nix::sys::termios::LocalFlags;

        Quiet::without(LocalFlags::ECHO | LocalFlags::ICANON, false)
    }

    fn without(flags: nix::sys::termios::LocalFlags, asked: bool) -> io::Result<Quiet> {
        use nix::sys::termios::{SetArg, tcgetattr, tcsetattr};

        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(flags);
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &quiet)?;
        Ok(Quiet { before, asked })
    }
}

#[cfg(unix)]
impl Drop for Quiet {
    fn drop(&mut self) {
        use nix::sys::termios::{SetArg, tcsetattr};

        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.before);
        if self.asked {
            let _ = writeln!(io::stderr());
        }
    }
}
