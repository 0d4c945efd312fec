//! Who may use the page: the one-time code, the throttle, and the one session.
//!
//! A code opens one session, and then the next code is made: whoever stands in front of the box can always take over,
//! nobody else can. A browser that holds the session keeps it over reloads and lost connections. Wrong codes make their
//! sender wait longer and longer, and all senders together get a few tries in a second.

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Signs of a code: none that is easily taken for another one.
const SIGNS: &[u8; 31] = b"23456789abcdefghjkmnpqrstuvwxyz";
/// Signs in a code: 39 bits, with [`PER_SECOND`] tries a guess needs thousands of years.
const LENGTH: usize = 8;
/// Wrong codes that a sender may give before it has to wait.
const FREE: u32 = 4;
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Tries in one second, of all senders.
const PER_SECOND: u32 = 5;
/// Senders that are remembered.
const SENDERS: usize = 1024;

/// The door.
pub(super) struct Door {
    code: String,
    session: Option<Session>,
    wrong: HashMap<IpAddr, (u32, Instant)>,
    second: (Instant, u32),
}

/// What the browser that came in holds.
#[derive(Clone)]
struct Session {
    cookie: String,
    form: String,
}

/// How an attempt ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entrance {
    /// The value of the new cookie.
    Open(String),
    /// This was not the code.
    Wrong,
    /// Too many attempts: so many seconds.
    Wait(u64),
}

impl Door {
    /// Closed, with a first code.
    pub(super) fn new() -> io::Result<Door> {
        Ok(Door { code: code()?, session: None, wrong: HashMap::new(), second: (Instant::now(), 0) })
    }

    /// The code that opens the next session, as people read it.
    pub(super) fn code(&self) -> String {
        let (first, second) = self.code.split_at(LENGTH / 2);
        format!("{first}-{second}")
    }

    /// Whether a browser is in.
    pub(super) fn is_taken(&self) -> bool {
        self.session.is_some()
    }

    /// Tries a code. Where it is right, an earlier session ends and a new code is made.
    pub(super) fn enter(&mut self, typed: &str, from: IpAddr, now: Instant) -> io::Result<Entrance> {
        if let Some(seconds) = self.wait(from, now) {
            return Ok(Entrance::Wait(seconds));
        }
        let typed: String = typed.chars().filter(char::is_ascii_alphanumeric).take(2 * LENGTH).collect();
        if !same(&typed.to_ascii_lowercase(), &self.code) {
            self.count(from, now);
            return Ok(Entrance::Wrong);
        }
        self.wrong.remove(&from);
        self.code = code()?;
        let session = Session { cookie: token()?, form: token()? };
        self.session = Some(session.clone());
        Ok(Entrance::Open(session.cookie))
    }

    /// Whether a cookie is the session's; gives the token that its forms carry.
    pub(super) fn knows(&self, cookie: &str) -> Option<&str> {
        let session = self.session.as_ref()?;
        same(cookie, &session.cookie).then_some(session.form.as_str())
    }

    /// Whether a form was made for the session.
    pub(super) fn made(&self, form: &str) -> bool {
        self.session.as_ref().is_some_and(|session| same(form, &session.form))
    }

    /// Ends the session.
    pub(super) fn leave(&mut self) {
        self.session = None;
    }

    fn wait(&mut self, from: IpAddr, now: Instant) -> Option<u64> {
        let (since, tries) = &mut self.second;
        if now.duration_since(*since) >= Duration::from_secs(1) {
            (*since, *tries) = (now, 0);
        }
        *tries += 1;
        if *tries > PER_SECOND {
            return Some(1);
        }
        let (count, last) = self.wrong.get(&from)?;
        let over = count.checked_sub(FREE)?;
        let needed = Duration::from_secs(1 << over.min(6)).min(LONGEST_WAIT);
        let left = needed.checked_sub(now.duration_since(*last)).filter(|left| !left.is_zero())?;
        Some(left.as_secs() + 1)
    }

    fn count(&mut self, from: IpAddr, now: Instant) {
        if self.wrong.len() >= SENDERS && !self.wrong.contains_key(&from) {
            let oldest = self.wrong.iter().min_by_key(|(_, (_, last))| *last).map(|(from, _)| *from);
            if let Some(oldest) = oldest {
                self.wrong.remove(&oldest);
            }
        }
        let entry = self.wrong.entry(from).or_insert((0, now));
        *entry = (entry.0.saturating_add(1), now);
    }
}

/// Whether two texts are the same, in a time that does not tell where they differ.
fn same(one: &str, other: &str) -> bool {
    let (one, other) = (digest(&SHA256, one.as_bytes()), digest(&SHA256, other.as_bytes()));
    one.as_ref().iter().zip(other.as_ref()).fold(0, |differs, (one, other)| differs | (one ^ other)) == 0
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("the system gives no random numbers"))?;
    Ok(bytes)
}

fn code() -> io::Result<String> {
    let mut code = String::new();
    while code.len() < LENGTH {
        // Bytes beyond the last whole multiple would make some signs likelier.
        let signs = SIGNS.len();
        code.extend(
            random::<16>()?
                .into_iter()
                .map(usize::from)
                .filter(|byte| *byte < 256 / signs * signs)
                .filter_map(|byte| SIGNS.get(byte % signs).copied().map(char::from)),
        );
    }
    code.truncate(LENGTH);
    Ok(code)
}

fn token() -> io::Result<String> {
    Ok(random::<32>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_code_opens_once_and_the_next_one_takes_over() {
        let mut door = Door::new().unwrap();
        let now = Instant::now();
        let first = door.code();
        let Entrance::Open(one) = door.enter(&format!(" {} ", first.to_uppercase()), HERE, now).unwrap() else {
            panic!("the code was right")
        };
        assert!(door.knows(&one).is_some() && door.knows("").is_none() && door.knows(&one[1..]).is_none());
        assert_eq!(door.enter(&first, HERE, now).unwrap(), Entrance::Wrong);
        assert!(door.knows(&one).is_some());
        let Entrance::Open(two) = door.enter(&door.code(), HERE, now).unwrap() else { panic!("the code was right") };
        assert!(door.knows(&one).is_none() && door.knows(&two).is_some_and(|form| door.made(form)));
        assert!(!door.made(&two) && !door.made(""));
    }

    #[test]
    fn wrong_codes_wait_longer_and_longer_also_with_the_right_one() {
        let mut door = Door::new().unwrap();
        let mut now = Instant::now();
        let mut later = |seconds| {
            now += Duration::from_secs(seconds);
            now
        };
        for _ in 0..5 {
            assert_eq!(door.enter("22222222", HERE, later(2)).unwrap(), Entrance::Wrong);
        }
        let code = door.code();
        assert_eq!(door.enter(&code, HERE, later(0)).unwrap(), Entrance::Wait(3));
        assert_eq!(door.enter("22222222", HERE, later(2)).unwrap(), Entrance::Wrong);
        assert_eq!(door.enter(&code, HERE, later(2)).unwrap(), Entrance::Wait(3));
        for _ in 0..10 {
            assert_eq!(door.enter("22222222", HERE, later(61)).unwrap(), Entrance::Wrong);
        }
        assert_eq!(door.enter(&code, HERE, later(0)).unwrap(), Entrance::Wait(61));
        // Another sender is not hindered by it.
        assert!(matches!(door.enter(&code, IpAddr::from([10, 0, 0, 1]), later(0)).unwrap(), Entrance::Open(_)));
    }

    #[test]
    fn many_senders_together_get_a_few_tries_in_a_second() {
        let mut door = Door::new().unwrap();
        let now = Instant::now();
        let tries = (0..3000u16).map(|n| {
            let [high, low] = n.to_be_bytes();
            door.enter("22222222", IpAddr::from([10, 0, high, low]), now).unwrap()
        });
        assert_eq!(tries.filter(|entrance| *entrance == Entrance::Wrong).count(), 5);
        assert!(door.wrong.len() <= SENDERS);
    }

    #[test]
    fn codes_differ_and_are_made_of_clear_signs() {
        let codes: std::collections::BTreeSet<String> = (0..200).map(|_| code().unwrap()).collect();
        assert_eq!(codes.len(), 200);
        assert!(codes.iter().all(|code| code.len() == LENGTH && code.bytes().all(|sign| SIGNS.contains(&sign))));
        let used: std::collections::BTreeSet<u8> = codes.iter().flat_map(|code| code.bytes()).collect();
        assert_eq!(used.len(), SIGNS.len());
    }
}
