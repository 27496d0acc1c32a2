"""The explorer: fields and scores of a report that people play, slide and hover over in a browser.

Its parts know each other by two interfaces, one in Python and one in JavaScript:

- ``fields.Explored`` lists axes and reads ``field(channel, init, view, lead)`` and
  ``series(channel, init, view, row, column)`` from stores, lazily. A view is truth, a forecast, a
  member, the spread of an ensemble or a baseline.
- In the browser a *source* is an object ``{axes, field, series}``: ``axes`` is the record of
  ``axes.axes_record``, ``field(channel, init, view, lead)`` resolves to ``{values, precision}``
  with a Float32Array in rows from the first to the last (NaN where there is no value), and
  ``series(channel, init, view, cell)`` to the same with a value for each lead time. All arguments
  are positions on the axes; a cell is ``row * columns + column``.

``assets/data.js`` has the source of the report, whose fields are embedded in the page as integers,
see ``packed``; ``page`` puts scripts, styles and data together. A page of another source, such as a
server's, calls ``explore(section, source, curves)`` of ``assets/explorer.js`` with its own.
"""
