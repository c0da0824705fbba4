"""Names of the wire contract (shared/PROTOCOL.md): each of them is here once."""

POSSIBLE_DUPLICATE = "x-kickoff-possible-duplicate"
STREAM_OFFSET = "x-stream-offset"

REQUEST = "kickoff.request.v1"
CONTROL = "kickoff.control.v1"
QUERY = "kickoff.query.v1"

#: The routing key under which followers tell what they follow, on the exchange of questions.
FOLLOW_KEY = ":followers"

#: A client's own queue is gone, in milliseconds, after its last consumer.
QUEUE_EXPIRES_MS = 60 * 60 * 1000

#: The type of a kickoff's last event.
FINISHED = "kickoff_finished"


class Names:
    """The names of exchanges, streams and queues in a namespace."""

    def __init__(self, namespace: str, client_id: str) -> None:
        """Of a client with this id."""
        self.requests = f"{namespace}.requests"
        self.replies = f"{namespace}.replies"
        self.results = f"{namespace}.results"
        self.events = f"{namespace}.events"
        self.control = f"{namespace}.control"
        self.queries = f"{namespace}.queries"
        self.answers = f"{namespace}.answers"
        #: What replies and answers to this client are routed by; its dot keeps it apart from every kickoff id.
        self.reply_key = f"client.{client_id}"
        self.reply_queue = f"{namespace}.clients.{client_id}"
        self.event_queue = f"{self.reply_queue}.events"
        self.answer_queue = f"{self.reply_queue}.answers"

    def request_queue(self, crew: str) -> str:
        """The queue of a crew's requests."""
        return f"{self.requests}.{crew}"
