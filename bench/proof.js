/**
 * Reloads a server under load and counts what its clients lost.
 *
 *   npm run proof -- [--reloads 50] [--clients 200] [--json] [--host] [--sabotage drop|repeat|swap|fin|rst|kill]
 *   npm run proof -- big [--reloads 10]
 *   npm run proof -- web [--reloads 20] [--clients 200] [--move all] [--json]
 *
 * Exit code 1 on any loss. `--move` is TSUNAGI_MOVE for the apps: `--move ""` shows what happens to those that nobody has asked for. `--host` stays in the host's network namespace; `--sabotage` does harm once, to show that it is noticed.
 */
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { big, leastOfBig, mixed } from './proof/mixes.js'
import { findNamespace, runInside } from './proof/namespace.js'
import { failures, rows } from './proof/outcome.js'
import { runReloads } from './proof/reloads.js'
import { SABOTAGES } from './proof/sabotage.js'
import { table } from './proof/table.js'
import { proveWeb, webFailures, webTable } from './proof/web.js'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    reloads: { type: 'string' },
    clients: { type: 'string' },
    json: { type: 'boolean', default: false },
    host: { type: 'boolean', default: false },
    sabotage: { type: 'string' },
    move: { type: 'string', default: 'all' },
  },
})
const proofs = {
  web: { reloads: 20, clients: 200 },
  mixed: { mix: mixed, reloads: 50, clients: 200 },
  big: { mix: big, least: leastOfBig, reloads: 10, clients: 1000 },
}
const proof = proofs[positionals[0] ?? 'mixed']
const reloads = Number(values.reloads ?? proof?.reloads)
const clients = Number(values.clients ?? proof?.clients)
if (proof === undefined) usage(`there is no proof "${positionals[0]}"; there are: ${Object.keys(proofs).join(', ')}`)
if (!(reloads >= 1)) usage('--reloads is a number from 1')
if (!(clients >= 20)) usage('--clients is a number from 20')
if (values.sabotage !== undefined && !SABOTAGES.includes(values.sabotage)) usage(`--sabotage is one of ${SABOTAGES.join(', ')}`)

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1))
if (proof === proofs.web) await web()
else if (process.env.TSUNAGI_PROOF_INSIDE) await inside()
else await outside()

/** Finds a network namespace, runs there what is below, and shows its outcome. */
async function outside() {
  const found = values.host ? { how: "the host's network namespace, on loopback" } : findNamespace()
  process.stderr.write(`${reloads} reloads with ${clients} clients in ${found.how}, as uid ${process.getuid()}, Node ${process.version}\n`)
  const outcome = found.command ? await runApart(found) : await runHere({ inNamespace: false })
  outcome.where = found.how
  const failed = outcome.error ? [outcome.error] : failures(outcome)
  if (values.json) process.stdout.write(`${JSON.stringify({ ...outcome, failures: failed }, null, 2)}\n`)
  else
    process.stdout.write(
      `${outcome.error ? '' : `${table(rows(outcome))}\n`}${failed.length ? `\nFAILED\n  ${failed.join('\n  ')}\n` : '\nnothing was lost\n'}`,
    )
  process.exit(failed.length ? 1 : 0)
}

/** Web apps that know nothing of tsunagi, on loopback. */
async function web() {
  process.stderr.write(`${reloads} reloads of each app with ${clients} clients, Node ${process.version}\n`)
  const outcome = await proveWeb(
    { reloads, clients, move: values.move },
    (app, done) => done % 5 === 0 && process.stderr.write(`${app}: ${done} reloads\n`),
  )
  const failed = webFailures(outcome)
  if (values.json) process.stdout.write(`${JSON.stringify({ ...outcome, failures: failed }, null, 2)}\n`)
  else process.stdout.write(`${webTable(outcome)}\n${failed.length ? `\nFAILED\n  ${failed.join('\n  ')}\n` : '\nnothing was lost\n'}`)
  process.exit(failed.length ? 1 : 0)
}

async function runApart(found) {
  const { output, code, left } = await runInside(found, fileURLToPath(import.meta.url), process.argv.slice(2), {
    TSUNAGI_PROOF_INSIDE: '1',
  })
  try {
    const outcome = JSON.parse(output.trim().split('\n').at(-1))
    if (outcome.left) outcome.left.inNamespace = left
    return outcome
  } catch {
    return { error: `the proof itself ended with code ${code}` }
  }
}

async function inside() {
  process.stdout.write('\n') // tells the process outside that this namespace is there
  process.stdout.write(`${JSON.stringify(await runHere({ inNamespace: true }))}\n`)
}

async function runHere({ inNamespace }) {
  try {
    return await runReloads(
      { reloads, specs: proof.mix(clients), least: proof.least?.(clients), sabotage: values.sabotage, inNamespace },
      progress,
    )
  } catch (error) {
    return { error: error.stack }
  }
}

function progress(done, seen) {
  const every = process.stderr.isTTY ? 1 : 10
  if (done % every === 0 || done === reloads)
    process.stderr.write(`${done} reloads, ${seen} connections hurt${process.stderr.isTTY && done < reloads ? '\r' : '\n'}`)
}

function usage(problem) {
  process.stderr.write(`proof: ${problem}\n`)
  process.exit(2)
}
