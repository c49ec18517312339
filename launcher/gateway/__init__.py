"""Serve every model of this machine behind one port, swapped by memory.

gateway.py      put the parts together, answer until asked to end
app.py          routes: the gateway's own answers, and what goes to an engine
proxy.py        one request to its engine, the answer back, piece by piece
exchange.py     one request and its answer, as the others share it
request_body.py  a body: read as far as routing needs, streamed from there
client.py       the client's side of a request: its body as it comes, its leaving
body.py         PURE: the fields of a body that routing needs
engine_http.py  HTTP to engines, and their connections
silence.py      PURE: a frozen engine, or one that thinks for long
watch.py        looks at engines that are waited for, ends those that are frozen
keeper.py       the one writer: keeps admission's state and carries out what it decides
look.py         what runs, against what was known
work.py         does what it decides, in threads
ticket.py       a request's place in the queue
moments.py      what models are doing, for those who wait and watch
admission/      PURE: which models run and which requests wait
threads.py      what blocks, in threads
deployments.py  plan, start, find and end what runs, through `up`
planned_start.py  what a model is planned with, and what is planned
starts.py       plan and start one model; comes with the planner
places.py       PURE: the devices and RAM in which models lie
connect/        settings of other programs that ask the gateway
catalogue.py    the models that can be asked for, by name
config.py       the settings in config.toml and variables
fallback.py     an answer from an API elsewhere, where the owner allows it
fallback_config.py  PURE: its settings, prices, and what a request may cost
fallback_words.py   PURE: requests in its words, answers in ours
api_offers.py   PURE: official APIs of models in the profiles
cost.py         PURE: an answer here against the API's
watts.py        what this machine may draw
spending.py     what it has cost, by month
guard.py        PURE: key, Host, Origin and path of a request
keys.py         who may ask, hashed
ollama.py       Ollama's API
ollama_lists.py  what it says of models
ollama_pull.py  its pull, with progress
ollama_words.py  PURE: its requests in OpenAI's words, the answers in its own
door.py         the deployment of a model that a request is sent to
replicas.py     PURE: which replica of a model answers
replies.py      PURE: errors as each API writes them
status.py       what was answered, /v1/models
metrics.py      figures for Prometheus
overview.py     all there is to see, as JSON
running_address.py  where a gateway answers, for other commands
ask_status.py   ask a running gateway what it does
page/           what a browser shows of it, and a chat
server.py       uvicorn, with limits on headers and time
"""
