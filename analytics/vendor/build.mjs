// Writes vega-bundle.min.js and THIRD_PARTY_LICENSES.txt beside itself.
import {readFileSync, readdirSync, writeFileSync} from 'node:fs';
import {build} from 'esbuild';

const {metafile} = await build({
  absWorkingDir: import.meta.dirname,
  entryPoints: ['entry.mjs'],
  alias: {vega: './vega_trimmed.mjs'},
  bundle: true,
  charset: 'ascii',
  format: 'iife',
  legalComments: 'none', // every notice is in THIRD_PARTY_LICENSES.txt
  metafile: true,
  minify: true,
  outfile: 'vega-bundle.min.js',
  target: 'es2020',
});

const folderOfPackage = /^(?:.*node_modules\/)(?:@[^/]+\/)?[^/]+/;
const folders = new Set(
  Object.keys(metafile.inputs).map((path) => path.match(folderOfPackage)?.[0]).filter(Boolean),
);
// d3-delaunay's distribution already contains these two, unseen by the bundler.
folders.add('node_modules/delaunator').add('node_modules/robust-predicates');
const titlesByNotice = new Map(); // most packages of one author share their notice
for (const folder of [...folders].sort()) {
  const {name, version, license} = JSON.parse(readFileSync(`${folder}/package.json`, 'utf8'));
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  if (!file) throw new Error(`${name} ${version} ships no licence file`);
  const notice = readFileSync(`${folder}/${file}`, 'utf8').replaceAll('\r\n', '\n').trim();
  const titles = titlesByNotice.get(notice) ?? [];
  titlesByNotice.set(notice, [...titles, `${name} ${version} (${license})`]);
}
const rule = '='.repeat(80);
const chapters = [...titlesByNotice].map(
  ([notice, titles]) => `${rule}\n${titles.join('\n')}\n\n${notice}\n`,
);
writeFileSync(
  'THIRD_PARTY_LICENSES.txt',
  `vega-bundle.min.js contains code of these packages:\n\n${chapters.join('\n')}`,
);
