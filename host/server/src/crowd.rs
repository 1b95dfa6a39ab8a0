//! How many connections one address has: a cap for each, so that one crowd does not fill the house.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use rest::proxies::{Proxies, network};

/// How many connections each address has.
type Present = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// Counts connections by address, as [`network`] tells them apart.
#[derive(Clone, Debug)]
pub struct Crowd {
    most: usize,
    proxies: Proxies,
    present: Present,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    of: Option<(IpAddr, Present)>,
}

impl Crowd {
    /// At most `most` of one address; 0 = as many as there is room for. Many clients share a proxy's.
    pub fn new(most: usize, proxies: Proxies) -> Crowd {
        Crowd { most, proxies, present: Arc::default() }
    }

    /// A place for one more connection, if its address has fewer than it may.
    pub fn enter(&self, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        if self.most == 0 || self.proxies.contains(address) {
            return Some(Place { of: None });
        }
        let address = network(address);
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        let count = present.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place { of: Some((address, self.present.clone())) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((address, present)) = &self.of else { return };
        let mut present = present.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = present.get_mut(address) {
            *count -= 1;
            if *count == 0 {
                present.remove(address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_last_place_is_given_and_the_next_is_not_until_one_leaves() {
        let crowd = Crowd::new(2, Proxies::default());
        let first = crowd.enter(address("192.0.2.1"));
        let second = crowd.enter(address("::ffff:192.0.2.1"));
        assert!(first.is_some() && second.is_some());
        assert!(crowd.enter(address("192.0.2.1")).is_none());
        assert!(crowd.enter(address("192.0.2.2")).is_some(), "another address");
        drop(first);
        assert!(crowd.enter(address("192.0.2.1")).is_some());
        drop(second);
        assert!(crowd.present.lock().expect("lock").is_empty(), "nobody is remembered who left");
    }

    #[test]
    fn one_network_of_ipv6_is_one_address_and_zero_is_no_cap() {
        let crowd = Crowd::new(1, Proxies::default());
        let _place = crowd.enter(address("2001:db8::1"));
        assert!(crowd.enter(address("2001:db8::ffff")).is_none());
        assert!(crowd.enter(address("2001:db8:0:1::1")).is_some());
        let open = Crowd::new(0, Proxies::default());
        let all: Vec<_> = (0..100).map(|_| open.enter(address("192.0.2.1"))).collect();
        assert!(all.iter().all(Option::is_some));
    }
}
