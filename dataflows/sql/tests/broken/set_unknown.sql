SET epoch_in_flight = 3;
