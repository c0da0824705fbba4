"""A crew that was a Celery task: what each call becomes. pip install crewfleet; CREWFLEET__BROKER__URL says where RabbitMQ is.

    @app.task(time_limit=600)
    def market(inputs):
        return MarketingCrew().crew().kickoff(inputs=inputs).raw

The task's module goes: a worker imports the crew itself, by `target = "marketing.crew:MarketingCrew"`, and its time limit is the
crew's `timeout_s`. What the task returned is the reply, for which no result backend is needed."""

import sys

from crewfleet import CrewCancelled, Fleet

inputs = {"BUSINESS_DETAILS": "a bakery in Lisbon", "PRODUCT_DESCRIPTION": "a sourdough subscription"}

with Fleet() as fleet:  # app = Celery("shop", broker="amqp://…", backend="redis://…")
    market = fleet.crew(sys.argv[1])

    started = market.start(inputs)  # started = market.delay(inputs)
    print(started.result(timeout=300).raw)  # started.get(timeout=300)

    later = fleet.attach(started.kickoff_id)  # AsyncResult(started.id)
    print(later.result(timeout=300))  # later.get(timeout=300)

    for output in market.kickoff_for_each([inputs, inputs]):  # group(market.s(i) for i in many)().get()
        print(output.raw)

    unwanted = market.with_options(priority=1, timeout_s=60).start(inputs)  # market.apply_async((inputs,), priority=1, time_limit=60)
    fleet.run(unwanted.cancel())  # unwanted.revoke(terminate=True)
    try:
        unwanted.result()
    except CrewCancelled:  # TaskRevokedError
        print("cancelled")
