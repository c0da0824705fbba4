use super::*;

const OWN: &str = "own";
const OTHER: &str = "other";

fn told(follower: &str, for_s: u32) -> Following {
    Following {
        follower: follower.into(),
        kickoffs: vec!["a".into()],
        for_s,
    }
}

fn after(start: Instant, s: u64) -> Instant {
    start + Duration::from_secs(s)
}

/// One that is watched with a grace of ten seconds.
fn watched() -> (Heard, Instant) {
    let (heard, start) = (Heard::of(OWN), Instant::now());
    heard.watch("a", 0, Watched { grace_s: 10 }, start);
    (heard, start)
}

/// It hears itself every five seconds, from `from` to `to` seconds after `start`.
fn hears(heard: &Heard, start: Instant, from: u64, to: u64) {
    for s in (from..=to).step_by(5) {
        let nothing = Following {
            kickoffs: vec![],
            ..told(OWN, 20)
        };
        heard.hear(nothing, after(start, s));
    }
}

#[test]
fn a_kickoff_is_abandoned_when_the_last_follower_has_been_gone_for_its_grace() {
    for (last, s) in [(OWN, 23), (OTHER, 26)] {
        let (heard, start) = watched();
        let first = if last == OWN { OTHER } else { OWN };
        heard.hear(told(first, 20), start);
        heard.hear(told(last, 20), start);
        heard.hear(told(first, 0), after(start, 1));
        hears(&heard, start, 0, 25);
        assert!(heard.abandoned(after(start, 12)).is_empty(), "another follows it");
        heard.hear(told(last, 0), after(start, 13));
        assert!(heard.abandoned(after(start, s - 1)).is_empty());
        assert_eq!(heard.abandoned(after(start, s)), ["a"]);
        assert_eq!(heard.abandoned_run("a", after(start, s)), Some(0));
        heard.hear(told(OTHER, 20), after(start, s));
        assert_eq!(heard.abandoned_run("a", after(start, s)), None, "one came back");
    }
}

#[test]
fn who_comes_back_in_time_keeps_it() {
    let (heard, start) = watched();
    heard.hear(told(OTHER, 20), start);
    heard.hear(told(OTHER, 0), after(start, 5));
    heard.hear(told(OTHER, 20), after(start, 14));
    hears(&heard, start, 0, 45);
    // It is silent: its gateway was killed.
    assert!(heard.abandoned(after(start, 46)).is_empty());
    assert_eq!(heard.abandoned(after(start, 47)), ["a"]);
}

#[test]
fn nobody_counts_as_gone_where_nothing_is_heard_and_just_after_that() {
    let (heard, start) = watched();
    heard.hear(told(OTHER, 20), start);
    hears(&heard, start, 0, 10);
    // RabbitMQ takes nothing for a minute: nobody can say so again.
    for s in [35, 60, 70] {
        assert!(heard.abandoned(after(start, s)).is_empty());
    }
    hears(&heard, start, 70, 100);
    assert!(heard.abandoned(after(start, 79)).is_empty());
    heard.hear(told(OTHER, 20), after(start, 78));
    assert!(heard.abandoned(after(start, 97)).is_empty());
}

#[test]
fn one_whose_reader_never_came_back_to_a_restarted_gateway_is_abandoned() {
    let (heard, start) = watched();
    hears(&heard, start, 0, 10);
    assert!(heard.abandoned(after(start, 12)).is_empty());
    assert_eq!(heard.abandoned(after(start, 13)), ["a"]);
}

#[test]
fn a_later_run_is_watched_by_itself() {
    let (heard, start) = watched();
    heard.watch("a", 1, Watched { grace_s: 1 }, start);
    heard.watch("a", 0, Watched { grace_s: 3_600 }, start);
    hears(&heard, start, 0, 10);
    assert_eq!(heard.abandoned_run("a", after(start, 11)), Some(1));
}

#[test]
fn where_more_is_followed_than_it_remembers_it_cancels_none_and_keeps_those_it_knows() {
    let (heard, start) = watched();
    for n in 0..=MAX / MAX_FOLLOWED {
        let kickoffs = (0..MAX_FOLLOWED).map(|k| format!("{n}-{k}")).collect();
        heard.hear(
            Following {
                kickoffs,
                ..told("flood", 20)
            },
            start,
        );
    }
    let both = vec!["new".into(), "0-0".into(), "a".into()];
    heard.hear(
        Following {
            kickoffs: both,
            ..told(OTHER, 20)
        },
        start,
    );
    let known = heard.known();
    assert!(known.followed.len() <= MAX + 1 && !known.followed.contains_key("new"));
    assert!(known.followed["0-0"].contains_key(OTHER) && known.followed.contains_key("a"));
    drop(known);
    hears(&heard, start, 0, 15);
    assert!(heard.abandoned(after(start, 19)).is_empty());
}
