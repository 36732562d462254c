import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { lazyLoads } from './lazy-loads.js'

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))))

/** Read at load and run when a handover comes: whatever it requires, it requires late. */
const LATE = 'halves.cjs'

/** One name of each module that has come back into the core before, or would bring much along. */
const OF_A_HANDOVER = [
  ...['encodeGraph', 'decodeGraph', 'Packr', 'Unpackr', 'Conversation', 'Drain', 'takeOver', 'openSession', 'takeHeld', 'saveByHand'],
  ...['ExitTrigger', 'prepareHolders', 'Systemd', 'Supervised', 'spawnSuccessor', 'PlainInstallation', 'importSnapshot'],
  ...['WebSocketProtocol', 'Adoptions', 'SocketIoDialect', 'Protocols', 'ContinuedResponse', 'replay', 'swallowHead', 'http', 'sse', 'raw'],
]
/** Each 50 KB more cost a start about 1.5 ms of CPU time. */
const MOST_BYTES_OF_CORE = 118_000

/** An application that has installed the tarball, with no network: the package unpacked, its one dependency copied. */
let app: string
let packed: string[]

const installed = (...path: string[]) => join(app, 'node_modules', 'tsunagi', ...path)

beforeAll(() => {
  app = mkdtempSync(join(tmpdir(), 'tsunagi-pack-'))
  const [tarball] = JSON.parse(npm('pack', '--json', '--ignore-scripts', '--pack-destination', app)) as [
    { filename: string; files: { path: string }[] },
  ]
  packed = tarball.files.map((file) => file.path)
  mkdirSync(installed(), { recursive: true })
  execFileSync('tar', ['-xzf', join(app, tarball.filename), '-C', installed(), '--strip-components=1'])
  cpSync(join(root, 'node_modules', 'node-gyp-build'), join(app, 'node_modules', 'node-gyp-build'), { recursive: true })
  // Only the compiler looks at these.
  mkdirSync(join(app, 'node_modules', '@types'))
  symlinkSync(join(root, 'node_modules', '@types', 'node'), join(app, 'node_modules', '@types', 'node'))
  symlinkSync(join(root, 'node_modules', 'undici-types'), join(app, 'node_modules', 'undici-types'))
})

afterAll(() => rmSync(app, { recursive: true, force: true }))

describe('the tarball', () => {
  it('holds the bundle, the addon for this machine and the papers', () => {
    expect(packed).toEqual(
      expect.arrayContaining([
        'package.json',
        'LICENSE',
        'README.md',
        'CHANGELOG.md',
        ...['index', 'net', 'register'].flatMap((door) => ['js', 'cjs', 'd.ts', 'd.cts'].map((end) => `dist/${door}.${end}`)),
        'dist/core.cjs',
      ]),
    )
    expect(
      packed.filter((path) => path.startsWith(`prebuilds/${process.platform}-${process.arch}/`) && path.endsWith('.node')),
    ).not.toEqual([])
  })

  it('holds the helper beside the addon, as a program that runs', () => {
    const helper = installed('prebuilds', `${process.platform}-${process.arch}`, 'tsunagi-repair')
    const { status, stderr } = spawnSync(helper, [], { encoding: 'utf8' })
    expect([status, stderr]).toEqual([2, expect.stringContaining('usage: tsunagi-repair <path>')])
  })

  it('holds nothing else', () => {
    const others = packed.filter((path) => !/^(dist|prebuilds|docs)\//.test(path))
    expect(others.sort()).toEqual(['CHANGELOG.md', 'LICENSE', 'README.md', 'package.json'])
    expect(packed).not.toContain('dist/.inputs')
  })

  it('runs no script when it is installed', () => {
    const { scripts, gypfile } = JSON.parse(readFileSync(installed('package.json'), 'utf8'))
    expect(Object.keys(scripts)).not.toEqual(expect.arrayContaining([expect.stringMatching(/^(pre|post)?install$/)]))
    // Without this npm would run node-gyp for a package that has a binding.gyp.
    expect(gypfile).toBe(false)
  })
})

describe('an application that installed the tarball', () => {
  it('gets the very same functions by import and by require', () => {
    write(
      'same.mjs',
      `import { createRequire } from 'node:module'
       import * as esm from 'tsunagi'
       import net, * as esmNet from 'tsunagi/net'
       const require = createRequire(import.meta.url)
       const cjs = require('tsunagi')
       const cjsNet = require('tsunagi/net')
       const differing = (a, b) => Object.keys(b).filter((name) => name !== 'module.exports' && a[name] !== b[name])
       console.log(JSON.stringify({
         names: Object.keys(cjs),
         differing: [...differing(esm, cjs), ...differing(cjs, esm), ...differing(esmNet, cjsNet)],
         net: net === cjsNet.default && typeof net.createServer,
         ownCreateServer: net.createServer === esmNet.createServer && net.createServer !== require('node:net').createServer,
       }))`,
    )
    const { names, ...rest } = JSON.parse(node('same.mjs'))
    expect(names).toContain('attach')
    expect(rest).toEqual({ differing: [], net: 'function', ownCreateServer: true })
  })

  it('can preload the package both ways in front of either kind of program', () => {
    write('program.mjs', `import { attach } from 'tsunagi'; console.log(typeof attach)`)
    write('program.cjs', `console.log(typeof require('tsunagi').attach)`)
    for (const program of ['program.mjs', 'program.cjs']) {
      expect(node('--import', 'tsunagi/register', program)).toBe('function\n')
      expect(node('--require', 'tsunagi/register', program)).toBe('function\n')
      expect(node('--require', 'tsunagi/register', '--import', 'tsunagi/register', program)).toBe('function\n')
    }
  })

  it('has types under node16 resolution, imported and required', () => {
    const source = `import type { Server } from 'node:net'
      import { attach } from 'tsunagi'
      import net, { createServer } from 'tsunagi/net'
      import 'tsunagi/register'
      const made: Server = createServer()
      const alsoMade: Server = net.createServer((socket) => socket.end())
      attach(made)
      attach(alsoMade)
      // @ts-expect-error
      attach('not a server')`
    write('consumer.mts', source)
    write('consumer.cts', source)
    write(
      'tsconfig.json',
      JSON.stringify({
        compilerOptions: { strict: true, noEmit: true, module: 'node16', target: 'es2022', types: ['node'], esModuleInterop: true },
        files: ['consumer.mts', 'consumer.cts'],
      }),
    )
    const { status, stdout } = spawnSync(process.execPath, [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', app], {
      encoding: 'utf8',
    })
    expect(stdout).toBe('')
    expect(status).toBe(0)
  })
})

describe('the bundle', () => {
  it('loads nothing after it has started, since its files may be gone by then', () => {
    const bundle = readdirSync(installed('dist')).filter((name) => /\.c?js$/.test(name))
    const lazy = bundle.flatMap((name) => lazyLoads(name, readFileSync(installed('dist', name), 'utf8'), name === LATE))
    // The addon is loaded in a function that forgives its absence; the next test shows that this function has run. boot-done.ts imports the
    // application's main module once more, which is in memory by then.
    expect(lazy.filter((load) => !load.includes('node-gyp-build') && !load.includes('ownAddon') && !load.endsWith('import(url)'))).toEqual(
      [],
    )
  })

  it('has a core of what every start needs, and no more', () => {
    const [core, late] = ['core.cjs', LATE].map((name) => readFileSync(installed('dist', name), 'utf8')) as [string, string]
    const has = (text: string, name: string) => new RegExp(`(class|function|var) ${name}\\b`).test(text)
    expect(OF_A_HANDOVER.filter((name) => !has(late, name))).toEqual([])
    expect(OF_A_HANDOVER.filter((name) => has(core, name))).toEqual([])
    expect(Buffer.byteLength(core)).toBeLessThan(MOST_BYTES_OF_CORE)
    // What is loaded at once of Node is loaded by every start as well.
    expect(core).not.toMatch(/=require\("node:(zlib|crypto|http|https|http2|tls|child_process|worker_threads)"\)/)
  })

  it('has loaded the addon once it is imported', () => {
    write(
      'addon.mjs',
      `import { createRequire } from 'node:module'
       import { realpathSync } from 'node:fs'
       import 'tsunagi'
       const addons = Object.keys(createRequire(import.meta.url).cache).filter((path) => path.endsWith('.node'))
       console.log(addons.every((path) => path.startsWith(realpathSync('node_modules/tsunagi/prebuilds'))) && addons.length)`,
    )
    expect(node('addon.mjs')).toBe('1\n')
  })

  it('needs nothing but Node and its one dependency', () => {
    const asked = readdirSync(installed('dist'))
      .filter((name) => /\.c?js$/.test(name))
      .flatMap((name) => [...readFileSync(installed('dist', name), 'utf8').matchAll(/(?:require\d*\(|from |import )["']([^"']+)["']/g)])
      .map((match) => match[1] as string)
      .filter((specifier) => !specifier.startsWith('node:'))
    expect([...new Set(asked)].sort()).toEqual(['./core.cjs', 'node-gyp-build'])
  })
})

function write(name: string, text: string): void {
  writeFileSync(join(app, name), text)
}

function node(...args: string[]): string {
  return execFileSync(process.execPath, args, { cwd: app, encoding: 'utf8' })
}

function npm(...args: string[]): string {
  return execFileSync('npm', args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
}
