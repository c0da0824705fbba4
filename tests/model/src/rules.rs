//! The rules of the protocol: the code that each stands for, and the deliberate bugs that break it.
//!
//! When an item of the code moves or is renamed, change its name here. A test looks for each of them in the sources.

use crate::bug::Bug;

/// A rule of the protocol.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// What it says.
    pub says: &'static str,
    /// The code that does it: the last part is an item, those before it are modules or types.
    pub code: &'static [&'static str],
    /// What breaks it.
    pub bugs: &'static [Bug],
}

/// All of them, in the order of a delivery's way.
pub const RULES: [Rule; 18] = [
    Rule {
        says: "A worker takes deliveries once it knows all commands that were given before its link.",
        code: &["consumer::intake_opens", "control::tail", "LinkReadiness::wait"],
        bugs: &[Bug::TakesBeforeItIsSynced],
    },
    Rule {
        says: "It reads the control stream on from where it was.",
        code: &["control::tail", "control::Position", "Position::follows"],
        bugs: &[Bug::MissesCommands],
    },
    Rule {
        says: "A run adopts the deliveries of its attempt, and of earlier ones; a later one waits for its end.",
        code: &[
            "pipeline::kickoff",
            "RunRegistry::enter",
            "pipeline::excuse_redelivery",
            "registry::Entry",
        ],
        bugs: &[
            Bug::AdoptsALaterAttempt,
            Bug::AdoptsWithoutReceipt,
            Bug::AcksWhatItAdopts,
        ],
    },
    Rule {
        says: "What has ended here is answered from memory.",
        code: &[
            "CompletedRuns::get",
            "CompletedRuns::remember",
            "Completion::settles",
            "reply::republish_reply",
        ],
        bugs: &[Bug::ForgetsReplies, Bug::ForgetsHandingOn],
    },
    Rule {
        says: "Who gets what may run elsewhere asks first: the workers that live, and then in the stream.",
        code: &[
            "admission::admit",
            "ownership::claim",
            "ownership::inquire",
            "Broadcast::ask_peers",
            "Broadcast::record",
        ],
        bugs: &[
            Bug::StartsWithoutAsking,
            Bug::OverlooksTheMark,
            Bug::AsksInTalkAlone,
            Bug::OverhearsMine,
        ],
    },
    Rule {
        says: "Who has it says so, and knows from then on that another has its delivery.",
        code: &["control::answer", "RunRegistry::answer_claim"],
        bugs: &[Bug::ForgetsThatItWasAsked],
    },
    Rule {
        says: "Of two that ask each other, the one whose id is lower has it.",
        code: &["RunRegistry::answer_claim"],
        bugs: &[Bug::BothClaim, Bug::YieldsSilently],
    },
    Rule {
        says: "Who waits hears of its own attempt and body, by the stream, by talk, and by the reply.",
        code: &[
            "RunRegistry::peer_stated",
            "control::hear",
            "control::apply_talk",
            "peers::PeerListener",
            "Peers::listen",
        ],
        bugs: &[
            Bug::HearsOfAnyAttempt,
            Bug::HearsOfAnyBody,
            Bug::HearsOfAFailureTooSoon,
        ],
    },
    Rule {
        says: "The request is acked when its reply and its dead letter are confirmed.",
        code: &[
            "ended::replied",
            "reply::publish_reply",
            "settle::conclude",
            "until_confirmed::publish_until_confirmed",
            "unacked::ack_run",
        ],
        bugs: &[
            Bug::AcksBeforeTheReply,
            Bug::AcksBeforeTheLetter,
            Bug::AcksWithoutConfirm,
        ],
    },
    Rule {
        says: "A run that another worker has overtaken tells success, and drops any other outcome.",
        code: &[
            "ended::settle_what_failed",
            "ended::ownership",
            "ended::follows",
            "until_confirmed::before_its_end",
            "RunHandle::ownership",
            "RunHandle::set_ended",
            "RunHandle::decide",
            "Publisher::waiting_for",
        ],
        bugs: &[
            Bug::TellsWhenTaken,
            Bug::OverlooksAnAdoption,
            Bug::DecidesOnce,
            Bug::StaysSilentWhileItTells,
            Bug::SettlesBeforeItIsSynced,
        ],
    },
    Rule {
        says: "The next attempt is confirmed before this one is acked.",
        code: &[
            "retry::judge",
            "ended::retried",
            "settle::schedule_retry",
            "messages::retried",
        ],
        bugs: &[Bug::AcksBeforeTheNextAttempt],
    },
    Rule {
        says: "What is put back ends first; its copy is marked where another may be about.",
        code: &[
            "ended::requeue",
            "settle::requeue",
            "messages::requeued",
            "messages::marked",
        ],
        bugs: &[
            Bug::RequeuesBeforeItFinishes,
            Bug::RequeuesUnmarked,
            Bug::RequeuesUnmarkedAfterALoss,
        ],
    },
    Rule {
        says: "A run that drops its outcome says so, and gives back what it holds.",
        code: &["ended::release"],
        bugs: &[Bug::ReleasesSilently, Bug::ReleasesWhatItHolds],
    },
    Rule {
        says: "A run that has told its end says so to who asked.",
        code: &["ended::settled", "RunHandle::finish", "Broadcast::announce"],
        bugs: &[Bug::SettlesSilently],
    },
    Rule {
        says: "A panic puts the kickoff back.",
        code: &["pipeline::put_back", "faults::settle"],
        bugs: &[Bug::PanicsForGood],
    },
    Rule {
        says: "A cancel stops what runs, and keeps what was requested before it from starting, at any attempt.",
        code: &[
            "control::cancel",
            "Commands::cancel",
            "Commands::is_cancelled",
            "RunRegistry::stop",
        ],
        bugs: &[
            Bug::ForgetsACancelAtRetry,
            Bug::ForgetsACancel,
            Bug::CancelsRedrives,
        ],
    },
    Rule {
        says: "A redrive is a run of its own, and its letter goes when it is confirmed.",
        code: &["dead_letters::redrive", "run_key::RunKey"],
        bugs: &[Bug::AnswersRedrivesFromMemory, Bug::RemovesTheLetterFirst],
    },
    Rule {
        says: "Only workers that died with it count: no delivery of a living one, and no more than it was started.",
        code: &[
            "Commands::crashes",
            "Commands::excuse",
            "Commands::started",
            "admission::below_crash_limit",
            "admission::announce_start",
        ],
        bugs: &[
            Bug::AdoptsSilently,
            Bug::CountsEveryReturn,
            Bug::StartsSilently,
            Bug::ForgivesTwice,
        ],
    },
];
