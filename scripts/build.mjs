// Builds what is out of date, and nothing when nothing is: it runs before every start and every test.
//
//   node scripts/build.mjs           builds the addon (addon/build.mjs decides for itself), then dist
//   node scripts/build.mjs --check   builds nothing; exits 1 when dist is missing or out of date
//
// dist/.inputs holds a hash over everything the bundle is made of and the names of the files it consists of.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const dist = join(root, 'dist')
const stamp = join(dist, '.inputs')
const inputs = hashInputs()

if (process.argv.includes('--check')) {
  if (!isFresh()) fail('dist is missing or older than the sources: run `npm run build`')
} else {
  run(join('addon', 'build.mjs'))
  if (!isFresh()) buildDist()
}

/** Builds aside and swaps: a build that fails, or a server that starts meanwhile, still finds the last good dist. */
function buildDist() {
  const tsup = join('node_modules', 'tsup', 'dist', 'cli-default.js')
  if (!existsSync(join(root, tsup))) fail('the build tools are not installed: run `npm ci`')
  process.stderr.write('building dist\n')
  const aside = join(root, 'node_modules', `.dist-${process.pid}`)
  process.on('exit', () => rmSync(aside, { recursive: true, force: true }))
  run(tsup, '--out-dir', join(aside, 'new'))
  const outputs = readdirSync(join(aside, 'new'))
  writeFileSync(join(aside, 'new', '.inputs'), JSON.stringify({ inputs, outputs }))
  if (existsSync(dist)) renameSync(dist, join(aside, 'old'))
  renameSync(join(aside, 'new'), dist)
}

function isFresh() {
  if (!existsSync(stamp)) return false
  const built = JSON.parse(readFileSync(stamp, 'utf8'))
  return built.inputs === inputs && built.outputs.every((name) => existsSync(join(dist, name)))
}

/** Contents, not times: a checkout that goes back to an older version makes files newer. */
function hashInputs() {
  const sources = readdirSync(join(root, 'src'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .sort()
  const settings = ['package.json', 'package-lock.json', 'tsconfig.json', 'tsup.config.ts'].map((name) => join(root, name))
  const hash = createHash('sha256')
  for (const path of [...settings, ...sources]) hash.update(path.slice(root.length)).update('\0').update(readFileSync(path)).update('\0')
  return hash.digest('hex')
}

function run(script, ...args) {
  const { status, error } = spawnSync(process.execPath, [script, ...args], { cwd: root, stdio: 'inherit' })
  if (error) throw error
  if (status !== 0) process.exit(status ?? 1)
}

function fail(message) {
  process.stderr.write(`${message}\n`)
  process.exit(1)
}
