//! A first machine and one that joins its cluster: the wire between them, and how each waits for the other.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nodekiln_words::{Class, Failure, Result, ResultExt as _};

use super::ask::{self, Late};
use super::stages::Reached;
use crate::Tier;
use crate::deadlines::Stage;
use crate::guest::{Guest, Life};
use crate::place::Place;
use crate::report::Outcome;
use crate::rules::Verdict;
use crate::run::{Cause, Running, Waited};
use crate::seed::{self, Bootstrap, JoinPlan, KubeadmPlan};

/// How a machine joins, or why it cannot.
pub(super) type Joining = std::result::Result<JoinPlan, Outcome>;

/// Where the two wait for each other.
#[derive(Default)]
pub(super) struct Meeting {
    /// The second node's name, once it has joined; or why it has not.
    joined: OnceLock<std::result::Result<String, Outcome>>,
    /// Set when the first machine needs the second one no longer: whether nothing was wrong with it.
    asked: OnceLock<bool>,
}

/// Life for the second machine: there is nothing to join any more once the first one has gone away without asking about it.
impl Life for Meeting {
    fn check(&self) -> Result<()> {
        match (self.joined.get(), self.asked.get()) {
            (None, Some(_)) => {
                let text = "the first machine, whose cluster it was to join, has gone away";
                Err(Failure::new(Class::Verdict, text))
            }
            _ => Ok(()),
        }
    }
}

/// What a machine is to the other one.
pub(super) enum Role<'a> {
    /// Nothing: they are only compared.
    Alone,
    /// The cluster's first node, which is asked about the second.
    First(&'a Meeting),
    /// The node that joins.
    Second(&'a JoinPlan, &'a Meeting),
}

/// Lets the other machine go on, however this one's visit ends.
impl Drop for Role<'_> {
    fn drop(&mut self) {
        match self {
            Self::Alone => {}
            Self::First(meeting) => {
                let _ = meeting.asked.set(false);
            }
            Self::Second(_, meeting) => {
                let _ = meeting.joined.set(Err(failed("the second machine did not come up")));
            }
        }
    }
}

fn failed(why: &str) -> Outcome {
    Outcome::Judged(Verdict::Fail(why.to_owned()))
}

/// Has the first node of a cluster say how others join it.
///
/// # Errors
/// When the run is cancelled.
pub(super) fn token(reached: &Reached, running: &Running, plan: &KubeadmPlan) -> Result<Joining> {
    let Some(guest) = &reached.guest else {
        return Ok(Err(Outcome::Unasked("the first machine is not there any more".to_owned())));
    };
    let answer = guest.run(&seed::TOKEN, running.deadlines().command());
    let join = answer.and_then(|answer| {
        if answer.status == 0 {
            return JoinPlan::of(plan, &answer.text());
        }
        let said = answer.error_text(); // the token is no error
        let said = said.lines().rfind(|line| !line.is_empty()).unwrap_or("it said nothing");
        let text = format!("`kubeadm token create` ended with {}: {said}", answer.status);
        Err(Failure::new(Class::Verdict, text))
    });
    match join {
        Err(failure) if failure.class() == Class::Interrupted => Err(failure),
        Err(failure) => Ok(Err(failed(&failure.chain().join(": ")))),
        Ok(plan) => Ok(Ok(plan)),
    }
}

/// The two ends of a wire between two machines.
///
/// # Errors
/// When this process may open no more files.
pub(super) fn wire() -> Result<(Arc<OwnedFd>, Arc<OwnedFd>)> {
    let (near, far) = UnixStream::pair().or_io(|| "make a wire between two guests".into())?;
    Ok((Arc::new(near.into()), Arc::new(far.into())))
}

impl Role<'_> {
    /// What the machine's user-data makes of it.
    pub(super) fn bootstrap(&self) -> Option<Bootstrap<'_>> {
        match self {
            Self::Second(join, _) => Some(Bootstrap::Join(join)),
            Self::Alone | Self::First(_) => None,
        }
    }

    /// What ends the machine's part besides its own end.
    pub(super) fn beside(&self) -> Option<&dyn Life> {
        match self {
            Self::Second(_, meeting) => Some(*meeting),
            Self::Alone | Self::First(_) => None,
        }
    }

    /// Plays the part of the machine that its cluster calls `node`; `cause` is why it did not come up whole. What the
    /// first one says about the second is the answer.
    ///
    /// # Errors
    /// When the machine dies, the run is cancelled or the other one is waited for too long.
    pub(super) fn meet(
        &self,
        guest: &Guest,
        running: &Running,
        tier: Tier,
        node: &str,
        cause: Option<&Cause>,
    ) -> Result<Late> {
        match self {
            Self::Alone => Ok(Late::new()),
            Self::First(_) if cause.is_some() => {
                let why = failed("the first machine did not come up whole: see the cause");
                Ok(ask::unjoined(tier, &why))
            }
            Self::First(meeting) => running.stage(Stage::Joined, |_| {
                let way = seed::way(Place::FIRST, Place::CLONE);
                let led = guest.run(&["sh", "-c", &way], running.deadlines().command())?;
                if led.status != 0 {
                    let text =
                        format!("there is no way to the second machine: {}", led.error_text());
                    return Ok(ask::unjoined(tier, &failed(text.trim())));
                }
                // The second machine has deadlines, and tells whatever ends it.
                let joined = running.wait_for(Duration::MAX, || {
                    Ok(match meeting.joined.get() {
                        Some(joined) => Waited::Done(joined.clone()),
                        None => Waited::Still("the second machine has not joined".to_owned()),
                    })
                })?;
                match joined {
                    Ok(node) => ask::joined(guest, running, tier, &node),
                    Err(outcome) => Ok(ask::unjoined(tier, &outcome)),
                }
            }),
            Self::Second(_, meeting) => {
                let joined = match cause {
                    None => Ok(node.to_owned()),
                    Some(cause) => {
                        let stage = cause.stage.map_or("the run", |stage| stage.as_str());
                        Err(failed(&format!(
                            "the second machine, in stage {stage}: {}",
                            cause.text
                        )))
                    }
                };
                let there = joined.is_ok();
                let _ = meeting.joined.set(joined); // nobody else does
                // The first machine has deadlines, and tells whatever ends it.
                running.wait_for(Duration::MAX, || {
                    Ok(match !there || meeting.asked.get().is_some() {
                        true => Waited::Done(Late::new()),
                        false => Waited::Still("the first machine still needs it".to_owned()),
                    })
                })
            }
        }
    }

    /// Lets the second machine go; `sound` is whether nothing was wrong with it. What the first one was told of it, in
    /// the second's own place.
    pub(super) fn part(&self, sound: bool) -> bool {
        match self {
            Self::Alone => sound,
            Self::First(meeting) => {
                let _ = meeting.asked.set(sound);
                sound
            }
            Self::Second(_, meeting) => sound && meeting.asked.get() == Some(&true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expect::Expectations;
    use crate::metadata::Cloud;

    fn join() -> JoinPlan {
        let expect = Expectations { kubernetes: "1.30.1".parse().ok(), ..Expectations::default() };
        let cluster = KubeadmPlan::of(&expect, Cloud::NoCloud).unwrap().unwrap();
        let hash = cluster.authorities.fingerprint();
        let answer = format!(
            "kubeadm join 10.0.2.15:6443 --token a.b --discovery-token-ca-cert-hash {hash}"
        );
        JoinPlan::of(&cluster, &answer).unwrap()
    }

    #[test]
    fn a_machine_that_goes_away_does_not_keep_the_other_waiting() {
        let (meeting, join) = (Meeting::default(), join());
        drop(Role::Second(&join, &meeting));
        assert_eq!(meeting.joined.get(), Some(&Err(failed("the second machine did not come up"))));
        drop(Role::First(&meeting));
        assert_eq!(
            meeting.asked.get(),
            Some(&false),
            "nothing is known of it: its logs are wanted"
        );
    }

    #[test]
    fn a_machine_whose_cluster_has_gone_away_is_not_waited_for() {
        let (meeting, join) = (Meeting::default(), join());
        let second = Role::Second(&join, &meeting);
        assert!(second.beside().unwrap().check().is_ok());
        drop(Role::First(&meeting));
        let failure = second.beside().unwrap().check().unwrap_err();
        assert!(failure.to_string().contains("gone away") && failure.class() == Class::Verdict);
        assert!(Role::First(&meeting).beside().is_none() && Role::Alone.beside().is_none());

        let met = Meeting::default();
        met.joined.set(Ok("node-2".into())).unwrap();
        drop(Role::First(&met));
        assert!(met.check().is_ok(), "it has joined, and what became of that is known");
    }

    #[test]
    fn the_second_machine_learns_what_the_first_was_told_of_it() {
        let (join, sound, broken) = (join(), Meeting::default(), Meeting::default());
        assert!(Role::First(&sound).part(true) && Role::Second(&join, &sound).part(true));
        assert!(!Role::First(&broken).part(false) && !Role::Second(&join, &broken).part(true));
        assert!(Role::Alone.part(true) && !Role::Alone.part(false));
    }

    #[test]
    fn only_the_second_machine_is_told_to_join() {
        let (meeting, join) = (Meeting::default(), join());
        assert!(matches!(Role::Second(&join, &meeting).bootstrap(), Some(Bootstrap::Join(_))));
        assert!(Role::First(&meeting).bootstrap().is_none() && Role::Alone.bootstrap().is_none());
    }
}
