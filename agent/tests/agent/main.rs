//! The agent from its doors: journal on a real disk, real processes under a real supervisor, the real
//! binary against a host that the test plays; and its protocol core under seeded random walks.

mod facts;
mod guard;
mod join;
mod held;
mod hostile;
mod hung;
mod journal;
mod live;
mod played;
mod policy;
mod rotation;
mod samples;
mod new_key;
mod session;
mod spare;
mod supervisor;
mod secrets;
mod support;
mod walk;
mod joint;
