"""A 202, results, and events until the caller goes: pip install crewfleet fastapi uvicorn; uvicorn fastapi_service:app"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from crewfleet import Fleet, KickoffError
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse

fleet = Fleet()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
    yield
    await fleet.aclose()


app = FastAPI(lifespan=lifespan)


@app.post("/crews/{crew}/kickoffs", status_code=202)
async def kick_off(crew: str, inputs: dict[str, object]) -> dict[str, str]:
    return {"kickoff_id": await fleet.crew(crew).start(inputs).sent()}


@app.get("/kickoffs/{kickoff_id}")
async def result(kickoff_id: str) -> dict[str, str]:
    try:
        return {"result": str(await fleet.attach(kickoff_id))}
    except KickoffError as error:
        raise HTTPException(502, str(error)) from error


@app.post("/crews/{crew}/stream")
async def stream(crew: str, inputs: dict[str, object]) -> StreamingResponse:
    kickoff = fleet.crew(crew).with_options(cancel_on_abandon=True).start(inputs, events=True)
    lines = (f"{event.type}\n" async for event in kickoff.events())
    return StreamingResponse(lines, headers={"Kickoff-Id": kickoff.kickoff_id}, media_type="text/plain")
