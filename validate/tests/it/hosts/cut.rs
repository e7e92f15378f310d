//! A line that is cut.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};

/// A port that leads to `port` on this machine until that has sent `bytes`. The line is cut then, and nobody gets another
/// one.
pub(super) fn after(port: u16, bytes: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (near, _) = listener.accept().unwrap();
        drop(listener);
        let far = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (mut up, mut down) = (near.try_clone().unwrap(), far.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut up, &mut down));
        let (mut near, mut far, mut left) = (near, far, bytes);
        let mut buffer = [0; 1024];
        while left > 0 {
            let Ok(count @ 1..) = far.read(&mut buffer) else { break };
            let Ok(()) = near.write_all(&buffer[..count]) else { break };
            left = left.saturating_sub(count);
        }
        let _ = near.shutdown(Shutdown::Both);
        let _ = far.shutdown(Shutdown::Both);
    });
    own
}
