"""Failures on demand, and the journal, through OpenAI's own client."""

import json
import threading

import httpx
import openai

from .running import ServerTest


class FaultTest(ServerTest):
    def test_statuses_come_as_openai_s_errors(self):
        for model, error, code in (
            ("gpt-4o-fail-400", openai.BadRequestError, None),
            ("gpt-4o-fail-401", openai.AuthenticationError, "invalid_api_key"),
            ("fail-404", openai.NotFoundError, "model_not_found"),
            ("fail-429", openai.RateLimitError, "rate_limit_exceeded"),
            ("fail-quota", openai.RateLimitError, "insufficient_quota"),
            ("fail-context", openai.BadRequestError, "context_length_exceeded"),
            ("fail-500", openai.InternalServerError, None),
            ("fail-503", openai.InternalServerError, None),
            ("fail-529", openai.InternalServerError, "overloaded"),
        ):
            with self.subTest(model), self.assertRaises(error) as raised:
                self.ask("x", model=model)
            self.assertEqual(raised.exception.code, code)

    def test_two_failures_then_an_answer_for_each_request_by_itself(self):
        for text in ("one", "other"):
            for _ in range(2):
                with self.assertRaises(openai.RateLimitError) as raised:
                    self.ask(text, model="fail-429-2-after-7")
                self.assertEqual(raised.exception.response.headers["retry-after"], "7")
            self.assertTrue(self.ask(text, model="fail-429-2-after-7").choices)
        retrying = self.new_client(max_retries=2)
        messages = [{"role": "user", "content": "a third"}]
        self.assertTrue(retrying.chat.completions.create(model="fail-429-2-after-0.01", messages=messages).choices)

    def test_a_prompt_and_a_header_order_faults_too(self):
        with self.assertRaises(openai.InternalServerError):
            self.ask("please [[fail-500-1]]")
        self.assertTrue(self.ask("please [[fail-500-1]]").choices)
        with self.assertRaises(openai.ConflictError):
            self.ask("x", extra_headers={"x-fault": "fail-409"})
        with self.assertRaises(openai.RateLimitError):
            self.client.embeddings.create(model="text-embedding-3-small", input="x", extra_headers={"x-fault": "fail-429"})
        with self.assertRaisesRegex(openai.BadRequestError, "is no fault"):
            self.ask("x", model="fail-nothing")

    def test_connections_that_break(self):
        with self.assertRaises(openai.APIConnectionError) as raised:
            self.ask("x", model="fail-reset")
        self.assertIsInstance(raised.exception.__cause__, (httpx.ReadError, httpx.RemoteProtocolError))
        with self.assertRaises((openai.APIConnectionError, httpx.ReadError, httpx.RemoteProtocolError)):
            self.ask("x", model="fail-cut")
        text = ""
        with self.assertRaises((httpx.ReadError, httpx.RemoteProtocolError, openai.APIConnectionError)):
            for chunk in self.ask("x", model="slow-0.01-fail-cut", stream=True):
                text += chunk.choices[0].delta.content or ""
        self.assertTrue(text.startswith("Answer"))

    def test_answers_that_say_nothing(self):
        self.assertIsNone(self.ask("x", model="fail-empty").choices[0].message.content)
        with self.assertRaises((json.JSONDecodeError, openai.APIResponseValidationError)):
            self.ask("x", model="fail-malformed")

    def test_no_answer_until_the_client_goes_away(self):
        with self.assertRaises(openai.APITimeoutError):
            self.new_client(timeout=0.5).chat.completions.create(model="fail-timeout", messages=[{"role": "user", "content": "x"}])
        self.assertTrue(self.ask("x").choices)

    def test_a_held_call_waits_for_its_release(self):
        answers = []
        waiting = threading.Thread(target=lambda: answers.append(self.ask("x", model="gpt-4o-hold")))
        waiting.start()
        while not self.control("counts")["held"]:
            pass
        self.assertEqual(answers, [])
        self.control("release", {})
        waiting.join()
        self.assertTrue(answers[0].choices)


class RulesTest(ServerTest):
    rules = [
        {"match": "lamps", "tool_results": 0, "offers": "look_up", "call": [{"name": "look_up", "arguments": {"what": "{digest}"}}]},
        {"match": "numbered", "nth": 2, "say": "the second of {digest}"},
        {"match": "numbered", "times": 1, "json": {"the": "first"}},
        {"endpoint": "embeddings", "match": "broken", "fault": "fail-500"},
    ]

    def test_the_first_rule_that_fits_answers(self):
        tool = {"type": "function", "function": {"name": "look_up"}}
        made = self.ask("lamps", tools=[tool]).choices[0].message.tool_calls[0].function
        self.assertRegex(made.arguments, r'^\{"what": "[0-9a-f]{12}"\}$')
        self.assertTrue(self.ask("lamps").choices[0].message.content)
        said = [self.ask("numbered").choices[0].message.content for _ in range(3)]
        self.assertEqual(said[0], '{"the": "first"}')
        self.assertTrue(said[1].startswith("the second of "))
        self.assertTrue(said[2].startswith("Answer"))
        with self.assertRaises(openai.InternalServerError):
            self.client.embeddings.create(model="text-embedding-3-small", input="broken")

    def test_rules_that_come_later(self):
        self.control("rules", {"rules": [{"match": "later", "fault": "fail-503"}]})
        with self.assertRaises(openai.InternalServerError):
            self.ask("later")
        self.control("reset", {})
        self.assertTrue(self.ask("later").choices)

    def test_the_journal_has_each_request_once(self):
        before = len(self.journal_file.read_text().splitlines())
        self.ask("one")
        self.client.embeddings.create(model="text-embedding-3-small", input="two")
        with self.assertRaises(openai.RateLimitError):
            self.ask("three", model="fail-429")
        lines = [json.loads(line) for line in self.journal_file.read_text().splitlines()[before:]]
        self.assertEqual(lines, self.control("requests"))
        self.assertEqual([line["endpoint"] for line in lines], ["chat", "embeddings", "chat"])
        self.assertEqual([line["status"] for line in lines], [200, 200, 429])
        self.assertEqual((lines[0]["said"], lines[2]["fault"]), ("one", 429))
        self.assertEqual(self.control("counts"), {"chat": 2, "embeddings": 1, "held": 0})
        self.assertEqual([entry["n"] for entry in self.control("requests?since=2")], [3])
