"use strict";
// Everything that is shown is set as text: a rule or payment is never read as HTML.
const $ = (id) => document.getElementById(id);
const SHOWN = 50;
const number = new Intl.NumberFormat("en", { maximumFractionDigits: 6 });
const WORDS = { GREATER: ">", GREATER_EQUAL: "≥", LESS: "<", LESS_EQUAL: "≤", EQUAL: "=", NOT_EQUAL: "≠" };
let rules = new Map(), alerts = 0, latencies = [];

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function prepend(list, item) {
  list.prepend(item);
  while (list.children.length > SHOWN) list.lastChild.remove();
}

async function ask(method, path, body) {
  const options = { method, headers: { "content-type": "application/json" }, body: body && JSON.stringify(body) };
  const answer = await fetch(path, options);
  if (!answer.ok) say(await answer.text());
}

function say(text) {
  $("rejected").textContent = text;
  $("rejected").hidden = !text;
}

function sentence(rule) {
  const keys = (rule.groupingKeyNames || []).join(", ") || "all payments";
  const operator = WORDS[rule.limitOperatorType] || rule.limitOperatorType;
  return `${rule.aggregatorFunctionType} of ${rule.aggregateFieldName} by ${keys} in ${rule.windowMinutes} min ${operator} ${number.format(rule.limit)}`;
}

function payment(p) {
  return `${p.payerId} → ${p.beneficiaryId}  ${number.format(p.paymentAmount)}  ${p.paymentType}`;
}

function showState(message) {
  $("start").disabled = message.running;
  $("stop").disabled = !message.running;
  if (document.activeElement !== $("rate")) $("rate").value = message.rate;
  $("rate-shown").textContent = message.rate;
  rules = new Map(message.rules.map((rule) => [rule.ruleId, rule]));
  $("rules").replaceChildren(...message.rules.map((rule) => {
    const item = element("li", "", { class: rule.ruleState, "data-rule": rule.ruleId });
    const actions = element("span", "", { class: "actions" });
    const change = (label, state) => {
      const button = element("button", label, { "data-state": state });
      button.onclick = () => ask("PUT", `/api/rules/${rule.ruleId}/state/${state}`);
      actions.append(button);
    };
    if (rule.ruleState !== "ACTIVE") change("Activate", "ACTIVE");
    if (rule.ruleState !== "PAUSE") change("Pause", "PAUSE");
    const remove = element("button", "Delete", { "data-state": "DELETE" });
    remove.onclick = () => ask("DELETE", `/api/rules/${rule.ruleId}`);
    actions.append(remove);
    item.append(actions, element("strong", `#${rule.ruleId} `), element("span", rule.ruleState, { class: "state" }), element("div", sentence(rule)));
    return item;
  }));
}

function showAlert(message) {
  const { alert, dryRun, latency } = message;
  let rule = rules.get(alert.ruleId);
  try { rule = JSON.parse(alert.violatedRule); } catch { /* the rule as it is known here */ }
  const item = element("li", "", { class: dryRun ? "dry" : "", "data-rule": alert.ruleId });
  item.append(
    element("strong", `Rule #${alert.ruleId}${dryRun ? " (dry run)" : ""}: ${number.format(alert.triggeringValue)}`),
    element("div", rule ? sentence(rule) : "", { class: "fired" }),
    element("div", alert.key, { class: "key" }),
    element("div", payment(alert.triggeringEvent), { class: "payment" }),
    element("small", `${latency} ms`, { class: "took" }));
  prepend($("alerts"), item);
  $("alert-count").textContent = ++alerts;
  latencies = [...latencies.slice(-99), latency];
  $("latency").textContent = `${Math.round(latencies.reduce((a, b) => a + b, 0) / latencies.length)} ms`;
}

const SHOW = {
  state: showState,
  alert: showAlert,
  payment: ({ payment: p }) => prepend($("payments"), element("li", payment(p), { class: p.paymentAmount > 1000 ? "large" : "" })),
  rejected: ({ ruleId, reason }) => say(`${ruleId === null ? "A rule" : `Rule #${ruleId}`} was rejected: ${reason}`),
};

function connect() {
  const socket = new WebSocket(`ws://${location.host}/ws`);
  const connected = (is) => {
    $("connection").textContent = is ? "connected" : "not connected";
    $("connection").className = is ? "on" : "off";
  };
  socket.onopen = () => connected(true);
  socket.onmessage = (event) => {
    const message = JSON.parse(event.data);
    SHOW[message.type]?.(message);
  };
  socket.onclose = () => { connected(false); setTimeout(connect, 1000); };
}

$("start").onclick = () => ask("PUT", "/api/generator", { running: true });
$("stop").onclick = () => ask("PUT", "/api/generator", { running: false });
$("rate").oninput = () => { $("rate-shown").textContent = $("rate").value; };
$("rate").onchange = () => ask("PUT", "/api/generator", { rate: Number($("rate").value) });
$("clear-alerts").onclick = () => { alerts = 0; latencies = []; $("alerts").replaceChildren(); $("alert-count").textContent = 0; $("latency").textContent = "–"; };
document.querySelectorAll("[data-command]").forEach((button) => { button.onclick = () => ask("POST", `/api/control/${button.dataset.command}`); });
$("new-rule").onsubmit = (event) => {
  event.preventDefault();
  say("");
  const rule = Object.fromEntries(new FormData(event.target));
  rule.groupingKeyNames = rule.groupingKeyNames.split(",").map((name) => name.trim()).filter(Boolean);
  ask("POST", "/api/rules", rule);
};
// The rules that the demo begins with.
const SAMPLES = [
  ["ACTIVE", "payerId,beneficiaryId", "paymentAmount", "GREATER", 20000000, 43200],
  ["PAUSE", "paymentType", "COUNT_FLINK", "LESS", 300, 1440],
  ["ACTIVE", "beneficiaryId", "paymentAmount", "GREATER_EQUAL", 10000000, 1440],
  ["ACTIVE", "paymentType", "COUNT_WITH_RESET_FLINK", "GREATER_EQUAL", 100, 1440],
];
$("samples").onclick = async () => {
  for (const [ruleState, keys, aggregateFieldName, limitOperatorType, limit, windowMinutes] of SAMPLES)
    await ask("POST", "/api/rules", { ruleState, groupingKeyNames: keys.split(","), aggregateFieldName, aggregatorFunctionType: "SUM", limitOperatorType, limit, windowMinutes });
};
connect();
