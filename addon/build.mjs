/**
 * Builds the addon for this machine into prebuilds/, where node-gyp-build looks first; does nothing when it is up to date.
 *
 *   node addon/build.mjs          prebuilds/<platform>-<arch>/, the program tsunagi-repair beside the addon
 *   node addon/build.mjs --asan   addon/build/asan/prebuilds/…, with AddressSanitizer and UBSan; prints how to run it
 *
 * One binary serves every Node from 20 on: it uses only Node-API and what uv.h makes public.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { delimiter, dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const addon = dirname(fileURLToPath(import.meta.url))
const root = dirname(addon)
const require = createRequire(import.meta.url)
const asan = process.argv.includes('--asan')

if (process.platform !== 'linux') {
  console.log(`tsunagi: the addon is for Linux; nothing to build on ${process.platform}`)
} else {
  build()
}

function build() {
  if (!asan) buildKeeper()
  const target = join(asan ? join(addon, 'build', 'asan') : root, 'prebuilds', `linux-${process.arch}`, binaryName())
  const helper = join(dirname(target), 'tsunagi-repair')
  const targets = asan ? [target] : [target, helper]
  const stamp = join(addon, 'build', asan ? 'asan.stamp' : 'release.stamp')
  const sources = hashOf(sourceFiles())
  if (targets.every(existsSync) && existsSync(stamp) && readFileSync(stamp, 'utf8') === sources + hashOf(targets)) {
    console.log(`tsunagi: ${relative(root, target)} is up to date`)
    return
  }
  requireTools()
  runNodeGyp()
  publish(join(addon, 'build', asan ? 'Debug' : 'Release', 'tsunagi.node'), target)
  if (!asan) publish(buildHelper(), helper)
  writeFileSync(stamp, sources + hashOf(targets))
  console.log(`tsunagi: built ${relative(root, target)}`)
  if (asan)
    console.log(`tsunagi: to run it: TSUNAGI_PREBUILD=${join(addon, 'build', 'asan')} LD_PRELOAD="$(gcc -print-file-name=libasan.so)"`)
}

/**
 * The keeper is one static program for every libc, beside the addon. It is small and has no state, so that it is simply built again
 * when a source is newer in content.
 */
function buildKeeper() {
  const folder = join(addon, 'keeper')
  const files = readdirSync(folder)
    .sort()
    .map((name) => join(folder, name))
  const target = join(root, 'prebuilds', `linux-${process.arch}`, 'tsunagi-keeper')
  const stamp = join(addon, 'build', 'keeper.stamp')
  const sources = hashOf([...files, fileURLToPath(import.meta.url)])
  if (existsSync(target) && existsSync(stamp) && readFileSync(stamp, 'utf8') === sources + hashOf([target])) return
  const built = join(addon, 'build', 'tsunagi-keeper')
  mkdirSync(dirname(built), { recursive: true })
  const cc = process.env.CC ?? 'gcc'
  const flags = '-std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Werror -Os -static -ffunction-sections -fdata-sections -Wl,--gc-sections -s'
  const run = spawnSync(
    `${cc} ${flags} -o "${built}" ${files
      .filter((name) => name.endsWith('.c'))
      .map((name) => `"${name}"`)
      .join(' ')}`,
    {
      shell: true, // CC may hold arguments or a launcher
      encoding: 'utf8',
    },
  )
  if (run.status !== 0) {
    process.stderr.write(run.stderr)
    fail(
      `building the keeper needs a C compiler with a static libc (Debian: gcc libc6-dev, Fedora: gcc glibc-static); "${cc}" failed, its output is above.`,
    )
  }
  publish(built, target)
  writeFileSync(stamp, sources + hashOf([target]))
  console.log(`tsunagi: built ${relative(root, target)}`)
}

/** The tags that node-gyp-build reads from a file name; it tells musl from glibc in the same way. */
function binaryName() {
  return `tsunagi.napi.${existsSync('/etc/alpine-release') ? 'musl' : 'glibc'}.node`
}

/** The process that has the capability instead of the server: what of the addon asks for it, without Node-API. */
function buildHelper() {
  const built = join(addon, 'build', 'tsunagi-repair')
  const own = readdirSync(join(addon, 'helper')).filter((name) => name.endsWith('.cc'))
  const shared = ['connection_record.cc', 'hold_table.cc', 'holds.cc', 'netlink.cc', 'repair_mode.cc']
  const sources = [...own.map((name) => join('helper', name)), ...shared.map((name) => join('src', name))]
  const flags = ['-std=c++17', '-O2', '-Wall', '-Wextra', '-D_GNU_SOURCE', '-I.', '-fPIE', '-pie', '-fstack-protector-strong', '-s']
  const linking = ['-static-libgcc', '-static-libstdc++', '-Wl,-z,relro,-z,now', '-o', built]
  // CXX may hold arguments or a launcher, hence the shell.
  const command = [process.env.CXX ?? 'g++', ...flags, ...sources, ...linking.map((argument) => `'${argument}'`)].join(' ')
  const run = spawnSync(command, { shell: true, cwd: addon, encoding: 'utf8' })
  if (/warning:/.test(run.stderr)) process.stderr.write(run.stderr)
  if (run.status === 0) return built
  process.stderr.write(run.stderr)
  fail('tsunagi-repair could not be built; the output of the compiler is above.')
}

/** Whatever changes the binaries: the sources, how they are built, and the headers they include from npm. */
function sourceFiles() {
  const folders = ['src', 'helper'].map((name) => join(addon, name))
  return [
    ...folders.flatMap((folder) =>
      readdirSync(folder)
        .sort()
        .map((name) => join(folder, name)),
    ),
    join(addon, 'binding.gyp'),
    fileURLToPath(import.meta.url),
    require.resolve('node-addon-api/package.json'),
  ]
}

function hashOf(files) {
  const hash = createHash('sha256')
  for (const file of files)
    hash
      .update(`${relative(root, file)}\0`)
      .update(readFileSync(file))
      .update('\0')
  return hash.digest('hex')
}

function requireTools() {
  const tools = [
    { name: 'a C++ compiler', command: process.env.CXX ?? 'g++', packages: 'g++' },
    { name: 'make', command: process.env.MAKE ?? 'make', packages: 'make' },
    { name: 'Python 3', command: process.env.PYTHON ?? 'python3', packages: 'python3' },
  ]
  for (const { name, command, packages } of tools) {
    // CXX may hold arguments or a launcher ("ccache g++"), hence the shell.
    if (spawnSync(`${command} --version`, { shell: true, stdio: 'ignore' }).status === 0) continue
    fail(
      `building the addon needs ${name}, and "${command} --version" does not run. Install it (${packages}) and run "node addon/build.mjs" again.`,
    )
  }
}

function runNodeGyp() {
  const nodeGyp = require.resolve('node-gyp/bin/node-gyp.js')
  const args = [nodeGyp, 'configure', 'build', '--directory', addon, '--jobs', 'max', asan ? '--debug' : '--release', ...ownHeaders()]
  // binding.gyp asks `node` for the path of node-addon-api: it must be this one.
  const env = { ...process.env, PATH: `${dirname(process.execPath)}${delimiter}${process.env.PATH ?? ''}` }
  const run = spawnSync(process.execPath, args, { encoding: 'utf8', env, maxBuffer: 1 << 28 })
  if (run.status === 0) {
    // gyp's own chatter is of no interest when all went well; a warning of the compiler is.
    if (/warning:/.test(run.stderr)) process.stderr.write(run.stderr)
    return
  }
  process.stderr.write(`${run.stdout ?? ''}${run.stderr ?? ''}`)
  fail(
    `node-gyp could not build the addon with Node ${process.version} (${run.error?.message ?? `exit code ${run.status}`}); its output is above.`,
  )
}

/** The headers installed beside this Node, so that no network is needed; without them node-gyp downloads its own. */
function ownHeaders() {
  const prefix = dirname(dirname(process.execPath))
  const include = join(prefix, 'include', 'node')
  return ['node_api.h', 'uv.h'].every((name) => existsSync(join(include, name))) ? ['--nodedir', prefix] : []
}

/** By rename: a process that has the old binary mapped keeps it whole. */
function publish(built, target) {
  mkdirSync(dirname(target), { recursive: true })
  const temporary = `${target}.${process.pid}`
  // Its mode goes along.
  copyFileSync(built, temporary)
  renameSync(temporary, target)
}

function fail(message) {
  console.error(`tsunagi: ${message}`)
  process.exit(1)
}
