//! Where a channel's messages go, as it is kept: whoever knows all of such an address may post there, so all of it
//! but the host is sealed with the channel's own key, and bound to the channel.

use plan::id::ChannelId;
use plan::secret;

/// Between what may be read and what is sealed.
const SEALED: &str = "/#sealed:";

/// The address in the form it is kept in; `nonce` is used once.
pub fn seal(key: &[u8; 32], nonce: [u8; 24], channel: ChannelId, url: &str) -> String {
    let sealed = secret::seal(key, nonce, &context(channel), url.as_bytes());
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..].find(['/', '\\', '?', '#']).map_or(url.len(), |end| host + end);
    format!("{}{SEALED}{sealed}", &url[..end])
}

/// The address as it was given; `None` when it was not sealed for this channel with this key. One that an earlier
/// version kept is in the clear.
pub fn open(key: &[u8; 32], channel: ChannelId, kept: &str) -> Option<String> {
    match kept.split_once(SEALED) {
        None => Some(kept.to_owned()),
        Some((_, sealed)) => String::from_utf8(secret::open(key, &context(channel), sealed)?).ok(),
    }
}

fn context(channel: ChannelId) -> String {
    format!("viworks-channel-address-v1\0{channel}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_address_that_is_kept_nothing_but_its_host_can_be_read() {
        let channel = |n| ChannelId(uuid::Uuid::from_u128(n));
        for url in
            ["https://hooks.example.org/services/T0/s3cret", "https://h.example?key=s3cret", "http://127.0.0.1:1"]
        {
            let kept = seal(&[7; 32], [1; 24], channel(1), url);
            let end = kept.find(SEALED).expect("sealed");
            assert!(!kept.contains("s3cret") && url.starts_with(&kept[..end]), "{kept}");
            assert_eq!(open(&[7; 32], channel(1), &kept).as_deref(), Some(url));
            assert_eq!(open(&[8; 32], channel(1), &kept), None, "another key");
            assert_eq!(open(&[7; 32], channel(2), &kept), None, "another channel's");
            assert_eq!(open(&[7; 32], channel(1), url).as_deref(), Some(url), "kept by an earlier version");
        }
    }
}
