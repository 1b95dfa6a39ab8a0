//! How a guard is told what to start and by which streams: descriptors that go over a socket, so that nothing of it
//! stands in an argument list, and no process inherits what is not its own.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recv, recvmsg, sendmsg,
    socketpair,
};
use nix::unistd::close;

use crate::guard::Start;

/// What is to be started, standard output, standard error, and standard input if there is one.
const MOST_DESCRIPTORS: usize = 4;

/// The ends of a process's streams that are the process's own.
#[derive(Debug)]
pub struct Streams {
    /// Its standard input; nothing when absent.
    pub stdin: Option<File>,
    /// Its standard output.
    pub stdout: File,
    /// Its standard error.
    pub stderr: File,
}

/// A way for orders: the supervisor's end, and the guard's.
///
/// # Errors
/// What the system answered.
pub fn way() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// Orders the guard at the other end to start `start`. Does not wait for it.
///
/// # Errors
/// What the system answered: then the guard has heard nothing of it, and will not.
pub fn give(way: &OwnedFd, start: &Start, streams: &Streams) -> io::Result<()> {
    let mut page = File::from(memfd_create(c"viworks-start", MFdFlags::MFD_CLOEXEC)?);
    page.write_all(&serde_json::to_vec(start).expect("a start holds nothing that JSON cannot"))?;
    let mut numbers = vec![page.as_raw_fd(), streams.stdout.as_raw_fd(), streams.stderr.as_raw_fd()];
    numbers.extend(streams.stdin.as_ref().map(File::as_raw_fd));
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    sendmsg::<()>(way.as_raw_fd(), &[IoSlice::new(&[0])], &[ControlMessage::ScmRights(&numbers)], flags, None)?;
    Ok(())
}

/// Whether nobody has taken the last order and nobody will: the other end was closed over it.
pub fn is_untaken(way: &OwnedFd) -> bool {
    recv(way.as_raw_fd(), &mut [0], MsgFlags::MSG_DONTWAIT) == Err(Errno::ECONNRESET)
}

/// Waits for the next order; `None` when none will come any more.
///
/// # Errors
/// What the system answered, or that what came is no order.
pub fn take(way: &OwnedFd) -> io::Result<Option<(Start, Streams)>> {
    let Some(numbers) = receive(way)? else { return Ok(None) };
    let [start, stdout, stderr, rest @ ..] = numbers.as_slice() else {
        return Err(io::Error::other("an order without its descriptors"));
    };
    let start = take_over(*start, File::options().read(true))?;
    let streams = Streams {
        stdin: rest.first().map(|stdin| take_over(*stdin, File::options().read(true))).transpose()?,
        stdout: take_over(*stdout, File::options().write(true))?,
        stderr: take_over(*stderr, File::options().write(true))?,
    };
    let start = serde_json::from_reader(io::BufReader::new(start)).map_err(io::Error::other)?;
    Ok(Some((start, streams)))
}

fn receive(way: &OwnedFd) -> io::Result<Option<Vec<RawFd>>> {
    let mut space = cmsg_space!([RawFd; MOST_DESCRIPTORS]);
    let mut byte = [0];
    loop {
        let mut bytes = [IoSliceMut::new(&mut byte)];
        match recvmsg::<()>(way.as_raw_fd(), &mut bytes, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
            Ok(message) if message.bytes == 0 => return Ok(None),
            Ok(message) => {
                let rights = message.cmsgs()?.filter_map(|part| match part {
                    ControlMessageOwned::ScmRights(numbers) => Some(numbers),
                    _ => None,
                });
                return Ok(Some(rights.flatten().collect()));
            }
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Opens a descriptor that came anew, from its start, and gives up the one that came.
fn take_over(number: RawFd, options: &OpenOptions) -> io::Result<File> {
    let file = options.open(format!("/proc/self/fd/{number}"))?;
    close(number)?;
    Ok(file)
}
