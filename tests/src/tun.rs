//! A TUN device: IP packets that the kernel sends through it are read from a file, and what is written to the file
//! arrives there.

use std::{
    ffi::{c_char, c_short},
    fs::{File, OpenOptions},
    io,
    os::fd::AsRawFd,
};

/// Makes a device of this name, at most 15 bytes, in the present network namespace; it may be moved to another. It goes
/// with the file. Each read is one packet, each write as well.
pub fn open(name: &str) -> io::Result<File> {
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: (libc::IFF_TUN | libc::IFF_NO_PI) as c_short },
    };
    let bytes = name.as_bytes();
    if bytes.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = *from as c_char;
    }
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    #[expect(
        unsafe_code,
        reason = "the kernel has no other way to make a TUN device, and no crate that is here has one"
    )]
    // SAFETY: the descriptor is open, and the request, which lives until the call returns, is the `ifreq` that
    // TUNSETIFF reads and writes.
    let made = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) };
    if made < 0 { Err(io::Error::last_os_error()) } else { Ok(file) }
}
