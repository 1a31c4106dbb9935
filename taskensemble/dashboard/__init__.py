"""The dashboard: one page that shows runs, members, workers and databases live, without a network beyond this server.

`snapshot.py` reads the record store and the databases and returns plain values; `app.py` serves them as JSON and as server-sent
events. `static/` is the page: `dashboard.js` listens and shows the run, `plots.js` draws its members, `databases.js` the
databases; `marks.js` has what they share.
"""
