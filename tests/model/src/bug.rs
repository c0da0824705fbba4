//! Deliberate bugs: each breaks one rule.

/// A deliberate bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Takes deliveries before the commands are known.
    TakesBeforeItIsSynced,
    /// Reads the control stream on from its end after a lost link, not from where it was.
    MissesCommands,
    /// A run takes a delivery of a later attempt for its own.
    AdoptsALaterAttempt,
    /// A run that adopts a delivery does not keep its receipt.
    AdoptsWithoutReceipt,
    /// A run that adopts a delivery acks it at once.
    AcksWhatItAdopts,
    /// Does not say that a delivery came back to its run.
    AdoptsSilently,
    /// Forgets what it has answered.
    ForgetsReplies,
    /// Forgets what it has handed on.
    ForgetsHandingOn,
    /// Starts what is redelivered without asking.
    StartsWithoutAsking,
    /// Asks for what the broker delivers again, and not for what is marked.
    OverlooksTheMark,
    /// Answers that it has a kickoff, and forgets that it was asked.
    ForgetsThatItWasAsked,
    /// Does not notice that another worker has adopted the delivery that was lost here.
    OverlooksAnAdoption,
    /// Two workers that ask each other both say that they have it.
    BothClaim,
    /// A worker that asks, and is asked by one that comes before it, does not ask again.
    YieldsSilently,
    /// Asks the workers that live, and not in the stream.
    AsksInTalkAlone,
    /// Takes what is said of an earlier attempt for its own.
    HearsOfAnyAttempt,
    /// Takes a reply to another body under the id for its own.
    HearsOfAnyBody,
    /// Takes the reply to a failure for its end, before the dead letter is there.
    HearsOfAFailureTooSoon,
    /// Waits only for `mine`, and starts when it hears it.
    OverhearsMine,
    /// Does not say that it has nothing to tell.
    ReleasesSilently,
    /// Does not say that it has replied.
    SettlesSilently,
    /// Acks before the reply is published.
    AcksBeforeTheReply,
    /// Acks before the dead letter is published.
    AcksBeforeTheLetter,
    /// Takes a publish without its confirm for published.
    AcksWithoutConfirm,
    /// Acks before the next attempt is published.
    AcksBeforeTheNextAttempt,
    /// Tells its outcome although another worker has the kickoff.
    TellsWhenTaken,
    /// Publishes what it decided before its link was lost.
    DecidesOnce,
    /// Has lost its delivery, tells its end all the same, and answers no question meanwhile.
    StaysSilentWhileItTells,
    /// Publishes over a link that has not read the commands.
    SettlesBeforeItIsSynced,
    /// Drops its outcome, and with it what it has adopted meanwhile.
    ReleasesWhatItHolds,
    /// Ends a run only after its copy is published.
    RequeuesBeforeItFinishes,
    /// Puts back a kickoff that another worker may run, without a mark.
    RequeuesUnmarked,
    /// Puts back a copy without a mark after its own delivery was lost.
    RequeuesUnmarkedAfterALoss,
    /// Leaves the delivery of a panicked task as it is.
    PanicsForGood,
    /// Looks for a cancel before the first attempt only.
    ForgetsACancelAtRetry,
    /// Stops what runs, and does not keep the cancel.
    ForgetsACancel,
    /// Takes a cancel for one of all redrives to come.
    CancelsRedrives,
    /// Takes a redrive for what it has answered before.
    AnswersRedrivesFromMemory,
    /// Removes a dead letter before its request is published.
    RemovesTheLetterFirst,
    /// Counts each delivery that came back as a death.
    CountsEveryReturn,
    /// Does not say that it starts what was delivered before.
    StartsSilently,
    /// Forgives one lost delivery twice: at the answer, and at the release.
    ForgivesTwice,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 42] = [
        Self::TakesBeforeItIsSynced,
        Self::MissesCommands,
        Self::AdoptsALaterAttempt,
        Self::AdoptsWithoutReceipt,
        Self::AcksWhatItAdopts,
        Self::AdoptsSilently,
        Self::ForgetsReplies,
        Self::ForgetsHandingOn,
        Self::StartsWithoutAsking,
        Self::OverlooksTheMark,
        Self::ForgetsThatItWasAsked,
        Self::OverlooksAnAdoption,
        Self::BothClaim,
        Self::YieldsSilently,
        Self::AsksInTalkAlone,
        Self::HearsOfAnyAttempt,
        Self::HearsOfAnyBody,
        Self::HearsOfAFailureTooSoon,
        Self::OverhearsMine,
        Self::ReleasesSilently,
        Self::SettlesSilently,
        Self::AcksBeforeTheReply,
        Self::AcksBeforeTheLetter,
        Self::AcksWithoutConfirm,
        Self::AcksBeforeTheNextAttempt,
        Self::TellsWhenTaken,
        Self::DecidesOnce,
        Self::StaysSilentWhileItTells,
        Self::SettlesBeforeItIsSynced,
        Self::ReleasesWhatItHolds,
        Self::RequeuesBeforeItFinishes,
        Self::RequeuesUnmarked,
        Self::RequeuesUnmarkedAfterALoss,
        Self::PanicsForGood,
        Self::ForgetsACancelAtRetry,
        Self::ForgetsACancel,
        Self::CancelsRedrives,
        Self::AnswersRedrivesFromMemory,
        Self::RemovesTheLetterFirst,
        Self::CountsEveryReturn,
        Self::StartsSilently,
        Self::ForgivesTwice,
    ];
}
