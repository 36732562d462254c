// Installs the other Node versions that the tests run on, and prints where they are:  npm run nodes
//
// They are npm packages that hold nothing but the official Linux x64 binaries, with a lockfile of their own, so that `npm ci` of the
// repository does not download 350 MB. What is installed already and right is left alone.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const here = import.meta.dirname
const { dependencies } = JSON.parse(readFileSync(join(here, 'package.json'), 'utf8'))
const wanted = Object.entries(dependencies).map(([name, source]) => ({
  version: `v${source.split('@').at(-1)}`,
  path: join(here, 'node_modules', name, 'bin', 'node'),
}))

if (process.platform !== 'linux' || process.arch !== 'x64')
  fail(`the packages hold binaries for Linux on x64, this is ${process.platform} on ${process.arch}`)
if (!wanted.every(isInstalled)) {
  const { status, error } = spawnSync('npm', ['ci', '--ignore-scripts'], { cwd: here, stdio: ['ignore', 'inherit', 'inherit'] })
  if (error) throw error
  if (status !== 0) process.exit(status ?? 1)
}
for (const node of wanted) {
  if (!isInstalled(node)) fail(`${node.path} is not Node ${node.version}`)
  console.log(`${node.version} ${node.path}`)
}

function isInstalled({ path, version }) {
  return existsSync(path) && spawnSync(path, ['--version'], { encoding: 'utf8' }).stdout?.trim() === version
}

function fail(message) {
  console.error(message)
  process.exit(1)
}
