SET on_error = 'ignore';
