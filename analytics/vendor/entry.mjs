// What templates/report.js needs, and nothing else, under one global name.
import {Warn, View, logger, parse} from 'vega';
import {expressionInterpreter} from 'vega-interpreter';
import {compile} from 'vega-lite';

globalThis.fillpathVega = {View, Warn, compile, expressionInterpreter, logger, parse};
