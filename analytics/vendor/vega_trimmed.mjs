// Vega without the parts no report draws: maps, force layouts, trees, word clouds, regressions.
// A chart that needs one of them: import its package here and add it to extend().
import {transforms} from 'vega-dataflow';
import * as encode from 'vega-encode';
import * as table from 'vega-transforms';
import {extend} from 'vega-util';
import * as view from 'vega-view-transforms';
import * as voronoi from 'vega-voronoi';

extend(transforms, table, view, encode, voronoi);

export {parse} from 'vega-parser';
export * from 'vega-scale';
export * from 'vega-util';
export {View} from 'vega-view';
